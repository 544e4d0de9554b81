# What the scripts share: messages, free ports, waiting, and stopping exactly
# what was started. Sourced by bash with `set -euo pipefail`.

# Debian keeps servers where an ordinary user's PATH does not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cache="$root/.cache"
# Everything started by this script, newest last.
started_pids=()
# Directories to remove at the end.
temporary_directories=()

heading() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
die() {
  complain "error: $*"
  exit 1
}

# Stops what was started, by process id, newest first: an orderly end, and a
# forced one for what has not ended after ten seconds.
stop_started() {
  while ((${#started_pids[@]} > 0)); do
    stop "${started_pids[-1]}"
  done
}

# stop PID: the same for one child.
stop() {
  local pid=$1 tries
  kill -TERM "$pid" 2>/dev/null || true
  for ((tries = 0; tries < 200; tries++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  forget "$pid"
}

# forget PID: it has ended, and its number may soon be a stranger's.
forget() {
  local pid kept=()
  for pid in "${started_pids[@]}"; do
    [[ $pid == "$1" ]] || kept+=("$pid")
  done
  started_pids=("${kept[@]}")
}

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  stop_started
  local directory
  for directory in "${temporary_directories[@]}"; do
    rm -rf "$directory"
  done
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# temporary_directory NAME: makes a directory that is removed at the end and
# puts its path into the variable NAME.
temporary_directory() {
  local made
  made="$(mktemp -d)"
  temporary_directories+=("$made")
  printf -v "$1" '%s' "$made"
}

# start LOG COMMAND...: runs it in the background, its output to LOG; its
# process id is $started afterwards.
start() {
  local log=$1
  shift
  "$@" >>"$log" 2>&1 </dev/null &
  started=$!
  started_pids+=("$started")
}

# free_ports COUNT: that many different loopback ports nobody listens on.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
}

# http_status PORT PATH: the status code of a GET, nothing where nobody answers.
http_status() (
  exec 2>/dev/null
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 0
  printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
  read -r -t 5 _ code _ <&3 || exit 0
  printf '%s' "$code"
)

redis_answers() { [[ "$(redis-cli -h 127.0.0.1 -p "$1" ping 2>/dev/null)" == PONG ]]; }
sidecar_ready() { [[ "$(http_status "$1" /readyz)" == 200 ]]; }

# wait_until WHAT PID LOG COMMAND...: polls until COMMAND is true; shows LOG and
# ends the script where the process ended or fifteen seconds passed.
wait_until() {
  local what=$1 pid=$2 log=$3 tries
  shift 3
  for ((tries = 0; tries < 600; tries++)); do
    "$@" && return 0
    if ! kill -0 "$pid" 2>/dev/null; then
      complain "$(tail -n 30 "$log")"
      die "$what ended before it was ready; its output is above"
    fi
    sleep 0.025
  done
  complain "$(tail -n 30 "$log")"
  die "$what was not ready after 15 s; its output is above"
}

# start_redis PORT DIRECTORY OPTION...: an unsaved redis-server of our own.
start_redis() {
  local port=$1 directory=$2
  shift 2
  mkdir -p "$directory"
  start "$directory/redis.log" redis-server --bind 127.0.0.1 --port "$port" \
    --save '' --appendonly no --dir "$directory" "$@"
  wait_until redis-server "$started" "$directory/redis.log" redis_answers "$port"
}

# memcache PORT TEXT: says TEXT to memcached, or to what stands for it, and
# prints what it answers; TEXT ends with `quit`.
memcache() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf '%b' "$2" >&3
  tr -d '\r' <&3
)

memcached_answers() { [[ "$(memcache "$1" 'version\r\nquit\r\n' 2>/dev/null)" == VERSION* ]]; }

# start_memcached PORT DIRECTORY: a memcached of our own.
start_memcached() {
  mkdir -p "$2"
  start "$2/memcached.log" memcached -l 127.0.0.1 -p "$1" -U 0 -u nobody
  wait_until memcached "$started" "$2/memcached.log" memcached_answers "$1"
}

# start_kafka DIRECTORY: one broker of our own, on 127.0.0.1:$kafka_port. Wants
# $KAFKA_LIBRARIES (install_kafka).
start_kafka() {
  local directory=$1 controller_port log4j="$root/tests/kafka/log4j2.xml"
  mkdir -p "$directory"
  read -r kafka_port controller_port < <(free_ports 2)
  cat >"$directory/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller_port
log.dirs=$directory/data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
PROPERTIES
  java -Xmx128m -Dlog4j2.configurationFile="$log4j" -cp "$KAFKA_LIBRARIES/*" \
    kafka.tools.StorageTool format --standalone -t AAAAAAAAAAAAAAAAAAAAAA \
    -c "$directory/server.properties" >"$directory/kafka.log" 2>&1 || {
    complain "$(<"$directory/kafka.log")"
    die "Apache Kafka's storage could not be formatted; see above"
  }
  run_kafka "$directory"
}

# run_kafka DIRECTORY: the broker of start_kafka, for the first time or again.
# Its process is $kafka_pid.
run_kafka() {
  start "$1/kafka.log" java -Xmx512m -XX:+UseSerialGC \
    -Dlog4j2.configurationFile="$root/tests/kafka/log4j2.xml" -cp "$KAFKA_LIBRARIES/*" \
    kafka.Kafka "$1/server.properties"
  kafka_pid=$started
  wait_until "Apache Kafka" "$started" "$1/kafka.log" port_answers "$kafka_port"
}

# kill_started PID: kill -9 of something started here.
kill_started() {
  kill -KILL "$1"
  wait "$1" 2>/dev/null || true
  forget "$1"
}

# metric ADMIN_PORT NAME: the value of a metric of the sidecar, of its first line.
metric() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
  sed -n "s/^$2{[^}]*} //p" <&3 | head -n 1
)

port_answers() (
  exec 2>/dev/null
  exec 3<>"/dev/tcp/127.0.0.1/$1"
)

# write_sidecar_config FILE JOURNAL PORT REDIS_PORT ADMIN_PORT CONNECTION DURABILITY
write_sidecar_config() {
  cat >"$1" <<TOML
region = "here"
roles = ["proxy"]

[journal]
backend = "local"
directory = "$2"

[[namespace]]
name = "sessions"
protocol = "redis"
listen = "127.0.0.1:$3"
upstream = "redis://127.0.0.1:$4"
connection = "$6"
durability = "$7"

[admin]
listen = "127.0.0.1:$5"
TOML
}

# use_kafka CONFIG BACKEND: lets a configuration's journal be in the broker of
# start_kafka, with BACKEND kafka or spool.
use_kafka() {
  python3 - "$1" "$2" "$kafka_port" <<'PYTHON'
import sys
file, backend, port = sys.argv[1:]
text = open(file).read().replace('backend = "local"', f'backend = "{backend}"')
head, tail = text.split("[[namespace]]", 1)
head += f'brokers = "127.0.0.1:{port}"\n\n[journal.kafka]\npartitions = 8\nreplication_factor = 1\n\n'
open(file, "w").write(head.replace("\n\nbrokers", "\nbrokers") + "[[namespace]]" + tail)
PYTHON
}

# start_sidecar CONFIG ADMIN_PORT LOG
start_sidecar() {
  start "$3" "$sidecar" run --config "$1"
  wait_until "the sidecar" "$started" "$3" sidecar_ready "$2"
}

# The binary the scripts run: another one can be named for trying things out.
# Cargo puts it elsewhere where it is told to.
built="${CARGO_TARGET_DIR:-$root/target}/release"
sidecar="${SIDECAR_BINARY:-$built/wal-sidecar}"

need_rust() {
  # A fresh rustup is not on the path of shells that run already.
  export PATH="$PATH:$HOME/.cargo/bin"
  command -v cargo >/dev/null && return 0
  complain "Rust is missing. Install it, then run this again:"
  complain "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
  complain "The build also needs: apt-get install gcc g++ make pkg-config libssl-dev zlib1g-dev"
  exit 1
}

build_release() {
  [[ -n "${SIDECAR_BINARY:-}" ]] && return 0
  (cd "$root" && cargo build --release --locked --bin wal-sidecar)
}
