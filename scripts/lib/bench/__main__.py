"""Measures the sidecar beside Redis itself and beside other proxies.

Runs are interleaved (every subject once, then again), because machines are
noisy: only ratios of interleaved runs mean something. Shown are medians.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import report
import subjects

VALUE_BYTES = 100
KEYS = 100000
IDLE_CONNECTIONS = 1000
# A first, discarded run of a load finds how many operations fill its time.
WARM_UP_OPERATIONS = {1: 3000, 50: 20000}
BENCHMARK_TIMEOUT_SECONDS = 300

# name: (command, clients, pipeline)
LOADS = {
    "get-c50-p1": ("get", 50, 1),
    "get-c50-p16": ("get", 50, 16),
    "get-c1-p1": ("get", 1, 1),
    "set-c50-p1": ("set", 50, 1),
    "set-c50-p16": ("set", 50, 16),
    "set-c1-p1": ("set", 1, 1),
}


def load(port, command, clients, pipeline, operations):
    """One run of redis-benchmark: operations per second and latencies in ms."""
    done = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", command, "--csv",
         "-c", str(clients), "-P", str(pipeline), "-n", str(operations),
         "-d", str(VALUE_BYTES), "-r", str(KEYS)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BENCHMARK_TIMEOUT_SECONDS,
    )
    rows = [line.replace('"', "").split(",") for line in done.stdout.splitlines()]
    if done.returncode != 0 or len(rows) != 2 or "Error" in done.stdout:
        raise RuntimeError(f"redis-benchmark failed: {done.stdout}{done.stderr}")
    values = dict(zip(rows[0], rows[1]))
    return {
        "ops_per_second": float(values["rps"]),
        "p50_ms": float(values["p50_latency_ms"]),
        "p99_ms": float(values["p99_latency_ms"]),
        "mean_ms": float(values["avg_latency_ms"]),
    }


def measure(subject, name, operations):
    """One load against one subject, with the proxy's CPU time per operation."""
    command, clients, pipeline = LOADS[name]
    before = subject.proxy.cpu_seconds() if subject.proxy else None
    result = load(subject.port, command, clients, pipeline, operations)
    if subject.proxy:
        used = subject.proxy.cpu_seconds() - before
        result["cpu_us_per_op"] = used / operations * 1e6
    return result


def calibrate(subject, name, seconds):
    """How many operations take about `seconds`; warms everything up."""
    command, clients, pipeline = LOADS[name]
    few = WARM_UP_OPERATIONS[clients] * (4 if pipeline > 1 else 1)
    rate = load(subject.port, command, clients, pipeline, few)["ops_per_second"]
    return max(few, int(rate * seconds))


def idle_connection_bytes(subject):
    """Resident memory of the proxy per connection that has sent one command and
    waits."""
    before = subject.proxy.resident_bytes()
    links = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            link = socket.create_connection(("127.0.0.1", subject.port), 10)
            links.append(link)
            link.sendall(b"*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n")
            if not link.recv(64):
                raise RuntimeError(f"{subject.name} closed idle connection {len(links)}")
        return (subject.proxy.resident_bytes() - before) / IDLE_CONNECTIONS
    finally:
        for link in links:
            link.close()


def start_subjects(names, directory):
    tools = subjects.tools()
    started = []
    for name in names:
        start, _ = subjects.SUBJECTS[name]
        need = "sidecar" if name.startswith("sidecar") else subjects.NEEDS.get(name)
        if need and not tools[need]:
            print(f"left out: {name}, because {need} is not there", file=sys.stderr)
            continue
        subject = subjects.Subject(name, directory)
        started.append(subject)
        try:
            start(subject, tools)
        except Exception:
            stop_all(started)
            raise
    return started


def stop_all(started):
    for subject in reversed(started):
        subject.stop()


def run(options, directory):
    started = start_subjects(options.only, directory)
    try:
        memory = {}
        for subject in started:
            if subject.proxy:
                memory[subject.name] = {
                    "ready_ms": subject.proxy.ready_ms,
                    "idle_bytes": subject.proxy.resident_bytes(),
                    "bytes_per_idle_connection": idle_connection_bytes(subject),
                }
        results = measure_loads(started, options)
        for subject in started:
            if subject.proxy:
                memory[subject.name]["loaded_bytes"] = subject.proxy.resident_bytes()
        return results, memory
    finally:
        stop_all(started)


def measure_loads(started, options):
    for subject in started:
        # Reads find values of the right size.
        load(subject.port, "set", 50, 16, 3 * KEYS)
    operations = {}
    for name in options.loads:
        for subject in started:
            operations[name, subject.name] = calibrate(subject, name, options.seconds)
    runs = {name: {subject.name: [] for subject in started} for name in options.loads}
    for number in range(options.runs):
        for name in options.loads:
            # Another order every time: nobody always follows the same neighbour.
            turn = number % len(started)
            for subject in started[turn:] + started[:turn]:
                result = measure(subject, name, operations[name, subject.name])
                runs[name][subject.name].append(result)
        print(f"run {number + 1} of {options.runs} done", file=sys.stderr)
    return {
        name: {subject: medians(rows) for subject, rows in by_subject.items()}
        for name, by_subject in runs.items()
    }


def medians(rows):
    result = {field: statistics.median(row[field] for row in rows) for field in rows[0]}
    rates = [row["ops_per_second"] for row in rows]
    result["ops_per_second_range"] = [min(rates), max(rates)]
    return result


def machine():
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if "model name" in line),
        platform.machine(),
    )
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True)
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "system": platform.platform(),
        "redis": redis.stdout.split("v=")[-1].split()[0],
        "load_average_at_start": os.getloadavg()[0],
    }


def names(known):
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return chosen

    return parse


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs; medians are shown (5)")
    parser.add_argument("--seconds", type=float, default=2, help="how long one load lasts (2)")
    parser.add_argument("--quick", action="store_true", help="1 run of 0.5 s: a try, not a figure")
    parser.add_argument("--only", type=names(subjects.SUBJECTS), default=subjects.DEFAULT_SUBJECTS,
                        metavar="A,B", help="of " + ", ".join(subjects.SUBJECTS))
    parser.add_argument("--loads", type=names(LOADS), default=list(LOADS), metavar="A,B",
                        help="of " + ", ".join(LOADS))
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as well")
    parser.add_argument("--directory", metavar="DIR", default=".cache",
                        help="where journal and append-only file are written (.cache); a real disk")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.seconds = 1, 0.5
    if options.runs < 1 or options.seconds <= 0:
        parser.error("--runs and --seconds must be above zero")
    return options


def file_system(path):
    """The type of the file system a directory is on."""
    done = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True)
    return done.stdout.strip()


def main():
    options = arguments()
    # Ended from outside, it still stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pathlib.Path(options.directory).mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=options.directory)).resolve()
    about = machine() | {
        "file_system": file_system(directory),
        "runs": options.runs,
        "seconds": options.seconds,
        "value_bytes": VALUE_BYTES,
        "keys": KEYS,
    }
    if about["file_system"] == "tmpfs":
        print("warning: the journal would be in memory; name a disk by --directory", file=sys.stderr)
    started = time.monotonic()
    try:
        results, memory = run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    about["took_seconds"] = round(time.monotonic() - started)
    targets = report.targets(results, memory)
    print(report.text(about, results, memory, targets))
    if options.json:
        document = {"about": about, "loads": results, "processes": memory, "targets": targets}
        pathlib.Path(options.json).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
