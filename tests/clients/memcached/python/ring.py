"""Whether the sidecar places keys on servers as libmemcached does.

Writes through $MEMCACHED_PORT, a sidecar in front of $MEMCACHED_SERVERS
(ports, separated by commas), and reads every key with libmemcached from the
server that it chooses itself; and the other way round.
Ends with `N passed, N failed`, exit status 1 where one failed.
"""

import os
import sys

import pylibmc

SERVERS = [f"127.0.0.1:{port}" for port in os.environ["MEMCACHED_SERVERS"].split(",")]
KEYS = [f"key:{number}" for number in range(3000)] + [f"k{number * 7919}" for number in range(1000)]


def main():
    own = pylibmc.Client(SERVERS, behaviors={"ketama_weighted": True, "hash": "md5"})
    through = pylibmc.Client([f"127.0.0.1:{os.environ['MEMCACHED_PORT']}"])
    wrong = 0
    for writer, reader, value in ((through, own, "a"), (own, through, "b")):
        writer.set_multi({key: f"{value}{key}" for key in KEYS})
        found = reader.get_multi(KEYS)
        wrong += sum(found.get(key) != f"{value}{key}" for key in KEYS)
    shares = []
    for server in SERVERS:
        shares.append(len(pylibmc.Client([server]).get_multi(KEYS)))
    print(f"{len(KEYS)} keys, on the servers: {shares}, misplaced: {wrong}")
    is_spread = sum(shares) == len(KEYS) and min(shares) > len(KEYS) // len(SERVERS) // 2
    failed = int(wrong > 0) + int(not is_spread)
    print(f"{2 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
