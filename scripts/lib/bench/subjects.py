"""What is measured: each subject is a process (or several) that a client of
Redis can be pointed at. All on 127.0.0.1, each with a Redis of its own, started
and stopped by process id.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

READY_SECONDS = 20
STOP_SECONDS = 10
# Enough for a thousand idle clients, and as many connections behind a proxy
# that opens one for each.
MAX_CONNECTIONS = 10000
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask(port, request, timeout=5):
    """One request on a connection of its own, the first bytes of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout) as link:
        link.sendall(request)
        return link.recv(4096)


def answers(port):
    # Not PING: some proxies answer that themselves, before Redis is reachable.
    try:
        return ask(port, b"*2\r\n$3\r\nGET\r\n$6\r\nabsent\r\n") in (b"$-1\r\n", b"_\r\n")
    except OSError:
        return False


class Process:
    """One child; its output goes to a file in `directory`."""

    def __init__(self, name, command, directory, ready):
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = directory / f"{name}.log"
        started = time.monotonic()
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while not ready():
            if self.child.poll() is not None or time.monotonic() > started + READY_SECONDS:
                self.stop()
                text = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} did not become ready:\n{text}")
            time.sleep(0.001)
        self.ready_ms = (time.monotonic() - started) * 1000

    def cpu_seconds(self):
        # The name in parentheses may hold spaces: count from its end.
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name} has ended")

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()


class Subject:
    """`port` is what clients connect to; `proxy` is none where there is no process
    between them and Redis."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.processes = []
        self.proxy = None
        self.port = free_port()

    def redis(self, port, *options):
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "",
                   "--maxclients", str(MAX_CONNECTIONS), "--dir", str(self.directory), *options]
        process = Process("redis", command, self.directory, lambda: answers(port))
        self.processes.append(process)
        return process

    def start_proxy(self, command, ready=None):
        ready = ready or (lambda: answers(self.port))
        self.proxy = Process(self.name, command, self.directory, ready)
        self.processes.append(self.proxy)

    def file(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def stop(self):
        for process in reversed(self.processes):
            process.stop()
        self.processes = []


def direct(subject, _):
    subject.redis(subject.port, "--appendonly", "no")


def redis_fsync(subject, _):
    """Redis' own durable mode: an append-only file, fsynced before each reply."""
    subject.redis(subject.port, "--appendonly", "yes", "--appendfsync", "always",
                  "--auto-aof-rewrite-percentage", "0")


def sidecar_config(subject, upstream, admin, connection, durability):
    return f"""region = "bench"
roles = ["proxy"]

[journal]
backend = "local"
directory = "{subject.directory}/journal"

[[namespace]]
name = "bench"
protocol = "redis"
listen = "127.0.0.1:{subject.port}"
upstream = "redis://127.0.0.1:{upstream}"
connection = "{connection}"
durability = "{durability}"

[admin]
listen = "127.0.0.1:{admin}"
"""


def sidecar(durability, connection="shared"):
    def start(subject, tools):
        upstream, admin = free_port(), free_port()
        subject.redis(upstream, "--appendonly", "no")
        text = sidecar_config(subject, upstream, admin, connection, durability)

        def ready():
            try:
                url = f"http://127.0.0.1:{admin}/readyz"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        subject.start_proxy([tools["sidecar"], "run", "--config",
                             subject.file("sidecar.toml", text)], ready)

    return start


def twemproxy(subject, tools):
    upstream = free_port()
    subject.redis(upstream, "--appendonly", "no")
    path = subject.file("nutcracker.yml", f"""bench:
  listen: 127.0.0.1:{subject.port}
  redis: true
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  backlog: 4096
  servers:
   - 127.0.0.1:{upstream}:1
""")
    # Log level 0 and a free port for its statistics; else it takes 22222.
    subject.start_proxy([tools["nutcracker"], "-c", path, "-v", "0", "-s", str(free_port()),
                         "-a", "127.0.0.1"])


def haproxy(subject, tools):
    upstream = free_port()
    subject.redis(upstream, "--appendonly", "no")
    path = subject.file("haproxy.cfg", f"""global
  nbthread 1
  maxconn {MAX_CONNECTIONS // 4}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind 127.0.0.1:{subject.port}
  server redis 127.0.0.1:{upstream}
""")
    subject.start_proxy([tools["haproxy"], "-db", "-f", path])


def envoy(batching):
    """One worker thread, as a sidecar has; statistics per command off, which is
    the default. `batching` is Envoy's own buffer before a flush upstream."""

    def start(subject, tools):
        upstream = free_port()
        subject.redis(upstream, "--appendonly", "no")
        path = subject.file("envoy.yaml", ENVOY.format(
            port=subject.port, upstream=upstream, maximum=MAX_CONNECTIONS, batching=batching))
        subject.start_proxy([tools["envoy"], "-c", path, "--concurrency", "1",
                             "--disable-hot-restart", "-l", "error"])

    return start


ENVOY = """static_resources:
  listeners:
  - name: bench
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: bench
          settings:
            op_timeout: 5s
            {batching}
          prefix_routes:
            catch_all_route: {{cluster: redis}}
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 1s
    lb_policy: MAGLEV
    circuit_breakers:
      thresholds:
      - {{max_connections: {maximum}, max_pending_requests: 100000, max_requests: 100000}}
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""

# Every subject in the order it is shown, and what it is.
SUBJECTS = {
    "direct": (direct, "Redis without anything between"),
    "redis-fsync": (redis_fsync, "Redis with appendfsync always"),
    "sidecar": (sidecar("durable"), "wal-sidecar, shared connections, every write fsynced first"),
    "sidecar-off": (sidecar("off"), "wal-sidecar without its journal"),
    "sidecar-enqueued": (sidecar("enqueued"), "wal-sidecar, journaled without waiting"),
    "sidecar-dedicated": (sidecar("durable", "dedicated"), "wal-sidecar, a connection per client"),
    "twemproxy": (twemproxy, "nutcracker"),
    "envoy": (envoy(""), "Envoy's redis_proxy, one worker, every request flushed at once"),
    "envoy-batching": (
        envoy("max_buffer_size_before_flush: 1024\n            buffer_flush_timeout: 0.001s"),
        "the same with 1024 bytes buffered for at most 1 ms",
    ),
    "haproxy": (haproxy, "HAProxy, TCP mode: no parsing"),
}
DEFAULT_SUBJECTS = ["direct", "redis-fsync", "sidecar", "sidecar-off", "twemproxy", "envoy", "haproxy"]
NEEDS = {"twemproxy": "nutcracker", "haproxy": "haproxy", "envoy": "envoy", "envoy-batching": "envoy"}


def tools():
    """Where the programs are; the wrapper script names those it installed."""
    return {
        "sidecar": os.environ.get("SIDECAR_BINARY"),
        "envoy": os.environ.get("ENVOY_BINARY"),
        "nutcracker": shutil.which("nutcracker"),
        "haproxy": shutil.which("haproxy"),
    }
