"""What applications do with redis-py, against 127.0.0.1:$REDIS_PORT.

Runs every test with RESP2 and with RESP3, and the same either straight
against Redis or through the sidecar: nothing here knows the difference.
Ends with `N passed, N failed`, exit status 1 where one failed.
"""

import asyncio
import os
import sys
import threading
import time
import traceback

import redis
import redis.asyncio

PORT = int(os.environ["REDIS_PORT"])
TIMEOUT_SECONDS = 20
BIG = os.urandom(10 * 1024 * 1024)


def connect(protocol, **options):
    options.setdefault("decode_responses", False)
    return redis.Redis(
        host="127.0.0.1",
        port=PORT,
        protocol=protocol,
        socket_timeout=TIMEOUT_SECONDS,
        **options,
    )


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"got {got!r:.300}, expected {expected!r:.300}")


def raises(kind, text, function, *arguments):
    try:
        got = function(*arguments)
    except kind as error:
        if text not in str(error):
            raise AssertionError(f"error {error!r} without {text!r}") from error
        return
    raise AssertionError(f"got {got!r} instead of an error with {text!r}")


def wait_for(condition):
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")


def test_values(c, protocol):
    equal(c.set("k", "v", ex=100), True)
    equal(c.get("k"), b"v")
    equal(0 < c.ttl("k") <= 100, True)
    equal(c.set("k", "w", nx=True), None)
    equal(c.set("k", "w", get=True), b"v")
    equal(c.incrby("n", 5), 5)
    equal(float(c.incrbyfloat("f", 1.5)), 1.5)
    equal(c.append("k", "xyz"), 4)
    equal(c.mset({"a": 1, "b": 2}), True)
    equal(c.mget("a", "b", "absent"), [b"1", b"2", None])
    equal(c.getdel("a"), b"1")
    equal(c.delete("k", "b", "absent"), 2)
    equal(c.get("k"), None)
    equal(c.set(b"\x00\r\n\xff", b"\r\n\x00"), True)
    equal(c.get(b"\x00\r\n\xff"), b"\r\n\x00")


def test_collections(c, protocol):
    equal(c.rpush("l", *range(5)), 5)
    equal(c.lrange("l", 0, -1), [b"0", b"1", b"2", b"3", b"4"])
    equal(c.lmove("l", "l2", "LEFT", "RIGHT"), b"0")
    equal(c.hset("h", mapping={"x": 1, "y": 2}), 2)
    equal(c.hgetall("h"), {b"x": b"1", b"y": b"2"})
    equal(c.hincrby("h", "x", 3), 4)
    equal(c.sadd("s", "a", "b", "c"), 3)
    equal(c.smembers("s"), {b"a", b"b", b"c"})
    equal(c.spop("s") in (b"a", b"b", b"c"), True)
    equal(c.scard("s"), 2)
    equal(c.zadd("z", {"one": 1, "two": 2.5}), 2)
    equal(c.zscore("z", "two"), 2.5)
    rows = [tuple(row) for row in c.zrange("z", 0, -1, withscores=True)]
    equal(rows, [(b"one", 1.0), (b"two", 2.5)])
    equal(c.zpopmin("z", 1)[0][0], b"one")
    equal(c.setbit("bits", 7, 1), 0)
    equal(c.pfadd("hll", "a", "b"), 1)
    equal(c.geoadd("geo", (13.361389, 38.115556, "Palermo")), 1)


def test_errors(c, protocol):
    c.set("text", "abc")
    raises(redis.ResponseError, "WRONGTYPE", c.lpush, "text", 1)
    raises(redis.ResponseError, "not an integer", c.incr, "text")
    raises(redis.ResponseError, "unknown command", c.execute_command, "NOSUCH", "x")
    raises(redis.ResponseError, "wrong number of arguments", c.execute_command, "GET")
    equal(c.get("text"), b"abc")


def test_pipeline(c, protocol):
    pipe = c.pipeline(transaction=False)
    for i in range(5000):
        pipe.set(f"p{i}", i)
        pipe.get(f"p{i}")
    equal(pipe.execute(), [x for i in range(5000) for x in (True, str(i).encode())])
    pipe = c.pipeline(transaction=False)
    pipe.set("text", "abc").incr("text").get("text")
    results = pipe.execute(raise_on_error=False)
    equal(results[0], True)
    equal(isinstance(results[1], redis.ResponseError), True)
    equal(results[2], b"abc")


def test_transactions(c, protocol):
    pipe = c.pipeline(transaction=True)
    equal(pipe.set("t", 1).incr("t").get("t").execute(), [True, 2, b"2"])
    with c.pipeline() as pipe:
        pipe.watch("t")
        value = int(pipe.get("t"))
        pipe.multi()
        pipe.set("t", value + 10)
        equal(pipe.execute(), [True])
    with c.pipeline() as pipe:
        pipe.watch("t")
        c.set("t", 99)
        pipe.multi()
        pipe.set("t", 0)
        raises(redis.WatchError, "", pipe.execute)
    equal(c.get("t"), b"99")
    with c.pipeline() as pipe:
        pipe.multi()
        pipe.set("t", 1)
        pipe.execute_command("NOSUCH")
        raises(redis.ResponseError, "", pipe.execute)
    equal(c.get("t"), b"99")
    single = connect(protocol, single_connection_client=True)
    equal(single.execute_command("MULTI") in (True, b"OK"), True)
    # QUEUED is no OK, and redis-py gives SET's reply as a truth value.
    equal(single.execute_command("SET", "t", 5), False)
    single.execute_command("DISCARD")
    equal(single.get("t"), b"99")
    single.close()


def test_concurrent_counters(c, protocol):
    pool = redis.ConnectionPool(
        host="127.0.0.1",
        port=PORT,
        protocol=protocol,
        max_connections=16,
        socket_timeout=TIMEOUT_SECONDS,
    )
    failures = []

    def work():
        try:
            shared = redis.Redis(connection_pool=pool)
            for i in range(200):
                shared.incr("counter")
                if shared.echo(str(i)) != str(i).encode():
                    failures.append("a reply went to another client")
        except Exception as error:  # shown below
            failures.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])
    equal(c.get("counter"), b"3200")
    pool.disconnect()


def test_publish_subscribe(c, protocol):
    subscriber = c.pubsub()
    subscriber.subscribe("news")
    subscriber.psubscribe("w*")
    for _ in range(2):
        message = subscriber.get_message(timeout=TIMEOUT_SECONDS)
        equal(message["type"] in ("subscribe", "psubscribe"), True)
    for i in range(100):
        equal(c.publish("news", i), 1)
    equal(c.publish("weather", "rain"), 1)
    got = [subscriber.get_message(timeout=TIMEOUT_SECONDS)["data"] for _ in range(101)]
    equal(got, [str(i).encode() for i in range(100)] + [b"rain"])
    subscriber.unsubscribe("news")
    equal(subscriber.get_message(timeout=TIMEOUT_SECONDS)["type"], "unsubscribe")
    equal(c.publish("news", "unheard"), 0)
    subscriber.ping()
    subscriber.close()


def test_blocking(c, protocol):
    got = []
    waiter = threading.Thread(target=lambda: got.append(connect(protocol).blpop("q", 10)))
    waiter.start()
    wait_for(lambda: c.info("clients")["blocked_clients"] == 1)
    # The others go on while one blocks.
    equal(c.ping(), True)
    equal(c.rpush("q", "job"), 1)
    waiter.join(TIMEOUT_SECONDS)
    equal([tuple(got[0])], [(b"q", b"job")])
    equal(c.blpop("q", 0.05), None)
    c.zadd("zq", {"m": 1})
    equal(list(c.bzpopmin("zq", 1)), [b"zq", b"m", 1.0])


def test_scripts(c, protocol):
    equal(c.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "lua", "x"), b"OK")
    script = c.register_script("return {redis.call('GET', KEYS[1]), ARGV[1] * 2, false}")
    equal(script(keys=["lua"], args=[21]), [b"x", 42, None])
    equal(c.script_exists(script.sha), [True])
    raises(redis.exceptions.NoScriptError, "", c.evalsha, "0" * 40, 0)
    raises(redis.ResponseError, "boom", c.eval, "return redis.error_reply('boom')", 0)
    code = "#!lua name=lib\nredis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)"
    equal(c.function_load(code, replace=True), b"lib")
    equal(c.fcall("put", 1, "fn", "y"), b"OK")
    equal(c.get("fn"), b"y")


def test_scan(c, protocol):
    names = {f"scan:{i}".encode() for i in range(1000)}
    pipe = c.pipeline(transaction=False)
    for name in names:
        pipe.set(name, 1)
    pipe.execute()
    equal(set(c.scan_iter("scan:*", count=50)), names)
    c.hset("big", mapping={f"f{i}": i for i in range(1000)})
    equal(len(dict(c.hscan_iter("big"))), 1000)


def test_streams(c, protocol):
    first = c.xadd("st", {"n": 1})
    second = c.xadd("st", {"n": 2})
    equal(c.xlen("st"), 2)
    equal(c.xgroup_create("st", "g", id="0"), True)
    read = c.xreadgroup("g", "me", {"st": ">"}, count=10, block=100)
    entries = read[b"st"] if isinstance(read, dict) else read[0][1]
    # RESP3 nests the entries of one stream once more.
    if len(entries) == 1 and isinstance(entries[0], list):
        entries = entries[0]
    equal([entry[0] for entry in entries], [first, second])
    equal(c.xack("st", "g", first), 1)
    equal(c.xpending("st", "g")["pending"], 1)
    claimed = c.xclaim("st", "g", "other", 0, [second])
    equal(claimed[0][0], second)
    equal(c.xtrim("st", maxlen=1, approximate=False), 1)
    equal(c.xrange("st")[0], (second, {b"n": b"2"}))


def test_big_values(c, protocol):
    equal(c.set("large", BIG), True)
    equal(c.get("large") == BIG, True)
    equal(c.strlen("large"), len(BIG))
    pipe = c.pipeline(transaction=False)
    for i in range(4):
        pipe.set(f"large{i}", BIG).get(f"large{i}")
    results = pipe.execute()
    equal(all(value == BIG for value in results[1::2]), True)
    equal(c.set("", ""), True)
    equal(c.get(""), b"")


def test_identity(c, protocol):
    equal(c.acl_setuser("app", enabled=True, passwords=["+pw"], categories=["+@all"], keys=["app:*"], reset=True), True)
    other = connect(protocol, username="app", password="pw")
    equal(other.acl_whoami() in (b"app", "app"), True)
    equal(other.set("app:1", "x"), True)
    raises(redis.exceptions.NoPermissionError, "", other.set, "else", "x")
    # The identity is the connection's own.
    equal(c.acl_whoami() in (b"default", "default"), True)
    equal(c.set("else", "y"), True)
    raises(
        redis.exceptions.AuthenticationError, "",
        connect(protocol, username="app", password="wrong").ping,
    )
    other.close()
    c.acl_deluser("app")


def test_databases(c, protocol):
    third = connect(protocol, db=3)
    c.set("where", "zero")
    third.set("where", "three")
    equal((c.get("where"), third.get("where")), (b"zero", b"three"))
    single = connect(protocol, single_connection_client=True)
    equal(single.execute_command("SELECT", 3) in (True, b"OK"), True)
    equal(single.get("where"), b"three")
    raises(redis.ResponseError, "", single.execute_command, "SELECT", 99)
    equal(single.get("where"), b"three")
    equal(single.move("where", 4), 1)
    third.flushdb()
    single.close()


def test_client_names(c, protocol):
    a = connect(protocol, client_name="a", single_connection_client=True)
    b = connect(protocol, single_connection_client=True)
    equal(a.client_getname() in ("a", b"a"), True)
    equal(b.client_getname() in (None, "", b""), True)
    b.client_setname("b")
    equal(b.client_getname() in ("b", b"b"), True)
    equal(a.client_getname() in ("a", b"a"), True)
    equal(a.client_id() == b.client_id(), False)
    equal(a.client_id(), a.client_id())
    a.close()
    b.close()


def test_monitor_and_info(c, protocol):
    equal("redis_version" in c.info(), True)
    equal(int(c.config_get("databases")["databases"]), 16)
    equal(c.dbsize(), 0)
    c.set("dump", "me")
    equal(c.restore("copy", 0, c.dump("dump"), replace=True), b"OK")
    equal(c.get("copy"), b"me")
    with c.monitor() as monitor:
        c.set("seen", "1")
        commands = monitor.listen()
        while "seen" not in next(commands)["command"]:
            pass


def test_asyncio(c, protocol):
    async def run():
        client = redis.asyncio.Redis(
            host="127.0.0.1", port=PORT, protocol=protocol, socket_timeout=TIMEOUT_SECONDS
        )

        async def one(i):
            await client.set(f"async{i}", i)
            return await client.get(f"async{i}")

        equal(await asyncio.gather(*map(one, range(50))), [str(i).encode() for i in range(50)])
        async with client.pipeline(transaction=True) as pipe:
            equal(await pipe.set("x", 1).incr("x").execute(), [True, 2])
        await client.aclose()

    asyncio.run(run())


def main():
    tests = [(name[5:], value) for name, value in globals().items() if name.startswith("test_")]
    passed = failed = 0
    for protocol in (2, 3):
        for name, test in tests:
            client = connect(protocol)
            try:
                client.flushall()
                test(client, protocol)
                passed += 1
                print(f"ok   redis-py RESP{protocol} {name}", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL redis-py RESP{protocol} {name}\n{traceback.format_exc()}", flush=True)
            finally:
                client.close()
    print(f"redis-py {redis.__version__}: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
