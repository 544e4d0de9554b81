"""What applications do with pymemcache and pylibmc, against
127.0.0.1:$MEMCACHED_PORT: straight against memcached or through the sidecar.
Ends with `N passed, N failed`, exit status 1 where one failed.
"""

import os
import sys
import traceback

import pylibmc
import pymemcache
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError, MemcacheServerError

PORT = int(os.environ["MEMCACHED_PORT"])
TIMEOUT_SECONDS = 20
BIG = os.urandom(900_000)


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"got {got!r:.300}, expected {expected!r:.300}")


def raises(kind, function, *arguments):
    try:
        got = function(*arguments)
    except kind:
        return
    raise AssertionError(f"got {got!r} instead of an error")


def connect_text(**options):
    return pymemcache.Client(("127.0.0.1", PORT), timeout=TIMEOUT_SECONDS, **options)


def pymemcache_values(c):
    equal(c.set("k", b"v", noreply=False), True)
    equal(c.get("k"), b"v")
    equal(c.get("absent"), None)
    equal(c.get("absent", default=b"d"), b"d")
    equal(c.add("k", b"w", noreply=False), False)
    equal(c.add("new", b"w", noreply=False), True)
    equal(c.replace("k", b"w", noreply=False), True)
    equal(c.replace("absent", b"w", noreply=False), False)
    equal(c.append("k", b"x", noreply=False), True)
    equal(c.prepend("k", b"y", noreply=False), True)
    equal(c.get("k"), b"ywx")
    equal(c.delete("k", noreply=False), True)
    equal(c.delete("k", noreply=False), False)


def pymemcache_noreply(c):
    for number in range(100):
        c.set(f"n{number}", str(number), noreply=True)
    equal(c.get("n99"), b"99")
    c.delete("n99", noreply=True)
    c.incr("n1", 5, noreply=True)
    c.touch("n2", 100, noreply=True)
    equal(c.get_many(["n99", "n1"]), {"n1": b"6"})
    c.flush_all(noreply=True)
    equal(c.get("n1"), None)


def pymemcache_many(c):
    values = {f"key-{number}": b"%d" % number for number in range(500)}
    equal(c.set_many(values, noreply=False), [])
    equal(c.get_many(list(values)), values)
    equal(len(c.gets_many(list(values)[:10])), 10)
    equal(c.delete_many(list(values)[:10], noreply=False), True)
    equal(len(c.get_many(list(values))), 490)


def pymemcache_cas(c):
    c.set("k", b"v", noreply=False)
    value, unique = c.gets("k")
    equal(value, b"v")
    equal(c.cas("k", b"w", unique, noreply=False), True)
    equal(c.cas("k", b"x", unique, noreply=False), False)
    equal(c.cas("absent", b"x", unique, noreply=False), None)


def pymemcache_numbers(c):
    c.set("n", b"10", noreply=False)
    equal(c.incr("n", 5), 15)
    equal(c.decr("n", 20), 0)
    equal(c.incr("absent", 1), None)
    c.set("text", b"t", noreply=False)
    raises(MemcacheClientError, c.incr, "text", 1)
    equal(c.get("n"), b"0 ")


def pymemcache_times(c):
    equal(c.set("k", b"v", expire=100, noreply=False), True)
    equal(c.touch("k", 200, noreply=False), True)
    equal(c.touch("absent", 200, noreply=False), False)
    equal(c.set("gone", b"v", expire=-1, noreply=False), True)
    equal(c.get("gone"), None)


def pymemcache_sizes(c):
    equal(c.set("big", BIG, noreply=False), True)
    equal(c.get("big"), BIG)
    raises(MemcacheServerError, lambda: c.set("big", b"x" * (2 << 20), noreply=False))
    equal(c.get("big"), None)
    equal(c.set("k" * 250, b"v", noreply=False), True)
    equal(c.get("k" * 250), b"v")
    raises(MemcacheIllegalInputError, c.get, "k" * 251)


def pymemcache_rest(c):
    equal(c.version()[:2], b"1.")
    equal(b"curr_items" in c.stats(), True)
    equal(c.flush_all(noreply=False), True)
    pool = PooledClient(("127.0.0.1", PORT), max_pool_size=4, timeout=TIMEOUT_SECONDS)
    pool.set("k", b"v", noreply=False)
    equal(pool.get("k"), b"v")
    pool.close()
    c.quit()


def pylibmc_values(c):
    equal(c.set("k", "v"), True)
    equal(c.get("k"), "v")
    equal(c.get("absent"), None)
    equal(c.set("object", {"a": [1, 2.5, None]}), True)
    equal(c.get("object"), {"a": [1, 2.5, None]})
    equal(c.add("k", "w"), False)
    equal(c.replace("k", "w"), True)
    equal(c.append("k", "x"), True)
    equal(c.prepend("k", "y"), True)
    equal(c.get("k"), "ywx")
    equal(c.delete("k"), True)
    equal(c.delete("k"), False)
    equal(c.set("big", BIG), True)
    equal(c.get("big"), BIG)


def pylibmc_many(c):
    values = {f"key-{number}": number for number in range(500)}
    equal(c.set_multi(values), [])
    equal(c.get_multi(list(values)), values)
    equal(c.get_multi(["1", "2"], key_prefix="key-"), {"1": 1, "2": 2})
    equal(c.delete_multi(list(values)[:10]), True)
    equal(len(c.get_multi(list(values))), 490)


def pylibmc_numbers_and_times(c):
    c.set("n", 10)
    equal(c.incr("n", 5), 15)
    equal(c.decr("n", 2), 13)
    raises(pylibmc.NotFound, c.incr, "absent")
    equal(c.set("k", "v", time=100), True)
    equal(c.touch("k", 200), True)
    equal(len(c.get_stats()), 1)
    equal(c.flush_all(), True)
    equal(c.get("n"), None)


def pylibmc_cas(c):
    c.behaviors["cas"] = True
    c.set("k", "v")
    value, unique = c.gets("k")
    equal(value, "v")
    equal(c.cas("k", "w", unique), True)
    equal(c.cas("k", "x", unique), False)


def pylibmc_noreply(c):
    c.behaviors["no_block"] = True
    for number in range(200):
        c.set(f"n{number}", number)
    c.behaviors["no_block"] = False
    equal(c.get("n199"), 199)


def main():
    passed, failed = 0, 0
    runs = [("pymemcache", connect_text, name) for name in globals() if name.startswith("pymemcache_")]
    for binary in (False, True):

        def connect(binary=binary):
            return pylibmc.Client([f"127.0.0.1:{PORT}"], binary=binary)

        kind = "pylibmc binary" if binary else "pylibmc text"
        runs += [(kind, connect, name) for name in globals() if name.startswith("pylibmc_")]
    for kind, connect, name in runs:
        client = connect()
        try:
            client.flush_all()
            globals()[name](client)
        except Exception:
            failed += 1
            print(f"FAIL {kind} {name}\n{traceback.format_exc()}")
        else:
            passed += 1
            print(f"ok   {kind} {name}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
