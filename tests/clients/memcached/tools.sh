#!/usr/bin/env bash
# What people do with libmemcached's tools, against 127.0.0.1:$MEMCACHED_PORT.
# Ends with `N passed, N failed`, exit status 1 where one failed.
set -uo pipefail
server="--servers=127.0.0.1:$MEMCACHED_PORT"
passed=0
failed=0
directory="$(mktemp -d)"
trap 'rm -rf "$directory"' EXIT

# check NAME EXPECTED COMMAND...: the command's output.
check() {
  local name=$1 expected=$2 got
  shift 2
  got="$("$@" 2>&1)"
  if [[ $got == "$expected" ]]; then
    passed=$((passed + 1))
    printf 'ok   %s\n' "$name"
  else
    failed=$((failed + 1))
    printf 'FAIL %s: %q instead of %q\n' "$name" "$got" "$expected"
  fi
}

succeeds() { "$@" >/dev/null 2>&1 && echo yes || echo no; }

for binary in "" --binary; do
  printf 'a value\nof two lines' >"$directory/one"
  check "memcflush $binary" yes succeeds memcflush $binary "$server"
  check "memccp $binary" yes succeeds memccp $binary "$server" "$directory/one"
  check "memccat $binary" $'a value\nof two lines' memccat $binary "$server" one
  check "memcexist $binary" yes succeeds memcexist $binary "$server" one
  check "memctouch $binary" yes succeeds memctouch $binary "$server" --expire=100 one
  check "memcrm $binary" yes succeeds memcrm $binary "$server" one
  check "memcexist of what is gone $binary" no succeeds memcexist $binary "$server" one
  # With --binary it says no to any server.
  [[ $binary ]] || check "memcping" yes succeeds memcping $binary "$server"
  check "memcstat $binary" yes succeeds memcstat $binary "$server"
  check "memcslap $binary" yes succeeds memcslap $binary "$server" --concurrency=4 --execute-number=500 --test=set
done
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
