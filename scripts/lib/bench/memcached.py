"""The memcached rows: the sidecar beside memcached itself and beside twemproxy.

Runs are interleaved (every subject once, then again); shown are medians, and
ratios to memcached itself. Text protocol, values of 100 bytes.
"""

import argparse
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.request

import subjects

# name: (command, clients, pipeline)
LOADS = {
    "get-c50-p1": ("get", 50, 1),
    "get-c50-p16": ("get", 50, 16),
    "get-c1-p1": ("get", 1, 1),
    "set-c50-p1": ("set", 50, 1),
    "set-c50-p16": ("set", 50, 16),
    "set-c1-p1": ("set", 1, 1),
}
KEYS = 100000


def answers(port):
    try:
        return subjects.ask(port, b"get absent\r\n") == b"END\r\n"
    except OSError:
        return False


def memcached(subject, port):
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "256", "-t", "1",
               "-u", "nobody", "-c", "4096"]
    subject.processes.append(
        subjects.Process("memcached", command, subject.directory, lambda: answers(port)))


def direct(subject, _):
    memcached(subject, subject.port)


def sidecar(durability):
    def start(subject, tools):
        upstream, admin = subjects.free_port(), subjects.free_port()
        memcached(subject, upstream)
        text = subjects.sidecar_config(subject, upstream, admin, "shared", durability)
        text = text.replace('"redis"', '"memcached"').replace("redis://", "memcached://")

        def ready():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        subject.start_proxy([tools["sidecar"], "run", "--config",
                             subject.file("sidecar.toml", text)], ready)

    return start


def twemproxy(subject, tools):
    upstream = subjects.free_port()
    memcached(subject, upstream)
    path = subject.file("nutcracker.yml", f"""bench:
  listen: 127.0.0.1:{subject.port}
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  backlog: 4096
  servers:
   - 127.0.0.1:{upstream}:1
""")
    subject.start_proxy([tools["nutcracker"], "-c", path, "-v", "0",
                         "-s", str(subjects.free_port()), "-a", "127.0.0.1"],
                        lambda: answers(subject.port))


SUBJECTS = {
    "direct": direct,
    "sidecar": sidecar("durable"),
    "sidecar-off": sidecar("off"),
    "sidecar-enqueued": sidecar("enqueued"),
    "twemproxy": twemproxy,
}


def load(program, port, name, operations):
    command, clients, pipeline = LOADS[name]
    done = subprocess.run(
        [program, "--port", str(port), "--command", command, "--clients", str(clients),
         "--pipeline", str(pipeline), "--operations", str(operations)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def run(options, directory):
    started = []
    try:
        for name, start in SUBJECTS.items():
            subject = subjects.Subject(name, directory)
            started.append(subject)
            start(subject, subjects.tools())
        operations = {}
        for subject in started:
            load(options.load, subject.port, "set-c50-p16", 3 * KEYS)
            for name, (_, clients, pipeline) in LOADS.items():
                few = 3000 if clients == 1 else 20000 * (4 if pipeline > 1 else 1)
                rate = load(options.load, subject.port, name, few)["ops_per_second"]
                operations[name, subject.name] = max(few, int(rate * options.seconds))
        runs = {name: {subject.name: [] for subject in started} for name in LOADS}
        for number in range(options.runs):
            for name in LOADS:
                turn = number % len(started)
                for subject in started[turn:] + started[:turn]:
                    count = operations[name, subject.name]
                    before = subject.proxy.cpu_seconds() if subject.proxy else 0
                    row = load(options.load, subject.port, name, count)
                    if subject.proxy:
                        row["cpu_us_per_op"] = (subject.proxy.cpu_seconds() - before) / count * 1e6
                    runs[name][subject.name].append(row)
            print(f"run {number + 1} of {options.runs} done", file=sys.stderr)
        return runs
    finally:
        for subject in reversed(started):
            subject.stop()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench --memcached", description=__doc__)
    parser.add_argument("--memcached", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--directory", default=".cache")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as well")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pathlib.Path(options.directory).mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory)).resolve()
    # memcached gives its rights up, and has to be able to come here.
    directory.chmod(0o755)
    try:
        runs = run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"\n{'load':<14}{'subject':<18}{'ops/s':>10}{'of direct':>11}{'p50 ms':>9}{'p99 ms':>9}{'cpu us/op':>11}")
    for name, by_subject in runs.items():
        for subject, rows in by_subject.items():
            middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            ratio = statistics.median(
                row["ops_per_second"] / base["ops_per_second"]
                for row, base in zip(rows, by_subject["direct"]))
            cpu = f"{middle['cpu_us_per_op']:>11.2f}" if "cpu_us_per_op" in middle else ""
            print(f"{name:<14}{subject:<18}{middle['ops_per_second']:>10.0f}{ratio:>11.2f}"
                  f"{middle['p50_ms']:>9.3f}{middle['p99_ms']:>9.3f}{cpu}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(runs, indent=2) + "\n")


main()
