import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPool;
import redis.clients.jedis.JedisPoolConfig;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Pipeline;
import redis.clients.jedis.Protocol.Command;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.Response;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.Transaction;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.params.XReadGroupParams;
import redis.clients.jedis.resps.ScanResult;

/**
 * What applications do with Jedis, against 127.0.0.1:$REDIS_PORT, with RESP2
 * and RESP3. Ends with `N passed, N failed`, exit status 1 where one failed.
 */
public class Suite {
  static final int TIMEOUT_MS = 20_000;
  static final HostAndPort ADDRESS =
      new HostAndPort("127.0.0.1", Integer.parseInt(System.getenv("REDIS_PORT")));

  interface Test {
    void run(Jedis c, RedisProtocol protocol) throws Exception;
  }

  static DefaultJedisClientConfig.Builder config(RedisProtocol protocol) {
    return DefaultJedisClientConfig.builder().protocol(protocol).timeoutMillis(TIMEOUT_MS);
  }

  static Jedis connect(RedisProtocol protocol) {
    return new Jedis(ADDRESS, config(protocol).build());
  }

  static void equal(Object got, Object expected) {
    if (!java.util.Objects.equals(got, expected)) {
      throw new AssertionError("got " + got + ", expected " + expected);
    }
  }

  static void fails(String text, Runnable action) {
    try {
      action.run();
    } catch (JedisDataException error) {
      if (!error.getMessage().contains(text)) throw error;
      return;
    }
    throw new AssertionError("no error with " + text);
  }

  static void values(Jedis c, RedisProtocol protocol) {
    equal(c.set("k", "v", SetParams.setParams().ex(100)), "OK");
    equal(c.get("k"), "v");
    equal(c.ttl("k") > 0, true);
    equal(c.set("k", "w", SetParams.setParams().nx()), null);
    equal(c.incrBy("n", 5), 5L);
    equal(c.mget("k", "absent"), Arrays.asList("v", null));
    equal(c.hset("h", Map.of("x", "1", "y", "2")), 2L);
    equal(c.hgetAll("h"), Map.of("x", "1", "y", "2"));
    equal(c.zadd("z", 1.5, "a"), 1L);
    equal(c.zscore("z", "a"), 1.5);
    equal(c.rpush("l", "1", "2"), 2L);
    equal(c.lrange("l", 0, -1), List.of("1", "2"));
    equal(c.sadd("s", "a"), 1L);
    equal(c.spop("s"), "a");
    equal(c.del("k", "absent"), 1L);
  }

  static void errors(Jedis c, RedisProtocol protocol) {
    c.set("text", "abc");
    fails("not an integer", () -> c.incr("text"));
    fails("WRONGTYPE", () -> c.lpush("text", "x"));
    fails("wrong number of arguments", () -> c.sendCommand(Command.GET));
    equal(c.get("text"), "abc");
  }

  static void pipeline(Jedis c, RedisProtocol protocol) {
    Pipeline pipeline = c.pipelined();
    for (int i = 0; i < 5000; i++) {
      pipeline.set("p" + i, "" + i);
      pipeline.get("p" + i);
    }
    List<Object> replies = pipeline.syncAndReturnAll();
    for (int i = 0; i < replies.size(); i++) {
      equal(replies.get(i), i % 2 == 0 ? "OK" : "" + i / 2);
    }
  }

  static void transactions(Jedis c, RedisProtocol protocol) {
    Transaction transaction = c.multi();
    transaction.set("t", "1");
    Response<Long> incremented = transaction.incr("t");
    transaction.exec();
    equal(incremented.get(), 2L);
    try (Jedis other = connect(protocol)) {
      c.watch("t");
      other.set("t", "99");
      transaction = c.multi();
      transaction.set("t", "0");
      equal(transaction.exec(), null);
      equal(other.get("t"), "99");
      transaction = c.multi();
      transaction.set("t", "5");
      equal(transaction.discard(), "OK");
      equal(c.get("t"), "99");
    }
  }

  static void pool(Jedis c, RedisProtocol protocol) throws Exception {
    JedisPoolConfig limits = new JedisPoolConfig();
    limits.setMaxTotal(16);
    limits.setTestOnBorrow(true);
    try (JedisPool pool = new JedisPool(limits, ADDRESS, config(protocol).build())) {
      CompletableFuture<?>[] workers = new CompletableFuture<?>[32];
      for (int worker = 0; worker < workers.length; worker++) {
        String name = "worker " + worker;
        workers[worker] = CompletableFuture.runAsync(() -> {
          for (int i = 0; i < 50; i++) {
            try (Jedis jedis = pool.getResource()) {
              jedis.incr("counter");
              equal(jedis.echo(name + i), name + i);
            }
          }
        });
      }
      CompletableFuture.allOf(workers).get(60, TimeUnit.SECONDS);
      equal(c.get("counter"), "1600");
    }
  }

  static void publishSubscribe(Jedis c, RedisProtocol protocol) throws Exception {
    CountDownLatch subscribed = new CountDownLatch(1);
    List<String> got = new java.util.concurrent.CopyOnWriteArrayList<>();
    JedisPubSub listener = new JedisPubSub() {
      @Override public void onSubscribe(String channel, int count) { subscribed.countDown(); }
      @Override public void onMessage(String channel, String message) {
        got.add(message);
        if (message.equals("end")) unsubscribe();
      }
    };
    CompletableFuture<Void> reader = CompletableFuture.runAsync(() -> {
      try (Jedis subscriber = connect(protocol)) {
        subscriber.subscribe(listener, "news");
        // Out of subscriber mode: an ordinary connection again.
        equal(subscriber.set("after", "x"), "OK");
      }
    });
    equal(subscribed.await(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
    for (int i = 0; i < 100; i++) equal(c.publish("news", "" + i), 1L);
    c.publish("news", "end");
    reader.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
    equal(got.size(), 101);
    equal(got.get(42), "42");
  }

  static void blocking(Jedis c, RedisProtocol protocol) throws Exception {
    CompletableFuture<List<String>> popped = CompletableFuture.supplyAsync(() -> {
      try (Jedis waiter = connect(protocol)) {
        return waiter.blpop(10, "q");
      }
    });
    long end = System.nanoTime() + TIMEOUT_MS * 1_000_000L;
    while (!c.info("clients").contains("blocked_clients:1")) {
      equal(System.nanoTime() < end, true);
    }
    equal(c.rpush("q", "job"), 1L);
    equal(popped.get(TIMEOUT_MS, TimeUnit.MILLISECONDS), List.of("q", "job"));
    equal(c.blpop(0.05, "q"), null);
  }

  static void scripts(Jedis c, RedisProtocol protocol) {
    equal(c.eval("return redis.call('SET', KEYS[1], ARGV[1])", List.of("lua"), List.of("x")), "OK");
    String sha = c.scriptLoad("return redis.call('GET', KEYS[1])");
    equal(c.evalsha(sha, List.of("lua"), List.of()), "x");
    fails("NOSCRIPT", () -> c.evalsha("0".repeat(40)));
  }

  static void scan(Jedis c, RedisProtocol protocol) {
    Pipeline pipeline = c.pipelined();
    for (int i = 0; i < 1000; i++) pipeline.set("scan:" + i, "1");
    pipeline.sync();
    Set<String> found = new HashSet<>();
    String cursor = ScanParams.SCAN_POINTER_START;
    do {
      ScanResult<String> page = c.scan(cursor, new ScanParams().match("scan:*").count(50));
      found.addAll(page.getResult());
      cursor = page.getCursor();
    } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
    equal(found.size(), 1000);
  }

  static void streams(Jedis c, RedisProtocol protocol) {
    StreamEntryID first = c.xadd("st", StreamEntryID.NEW_ENTRY, Map.of("n", "1"));
    StreamEntryID second = c.xadd("st", StreamEntryID.NEW_ENTRY, Map.of("n", "2"));
    equal(c.xgroupCreate("st", "g", new StreamEntryID(0, 0), false), "OK");
    var read = c.xreadGroup("g", "me", XReadGroupParams.xReadGroupParams().count(10),
        Map.of("st", StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY));
    equal(read.get(0).getValue().get(0).getID(), first);
    equal(read.get(0).getValue().get(1).getID(), second);
    equal(c.xack("st", "g", first), 1L);
    equal(c.xpending("st", "g").getTotal(), 1L);
  }

  static void bigValues(Jedis c, RedisProtocol protocol) {
    byte[] big = new byte[10 << 20];
    new Random(1).nextBytes(big);
    equal(c.set("large".getBytes(), big), "OK");
    equal(Arrays.equals(c.get("large".getBytes()), big), true);
  }

  static void identity(Jedis c, RedisProtocol protocol) {
    c.aclSetUser("app", "reset", "on", ">pw", "+@all", "~app:*");
    try (Jedis other = new Jedis(ADDRESS,
        config(protocol).user("app").password("pw").database(3).clientName("worker").build())) {
      equal(other.aclWhoAmI(), "app");
      equal(other.clientGetname(), "worker");
      other.set("app:1", "three");
      fails("NOPERM", () -> other.set("else", "x"));
      equal(c.get("app:1"), null);
      c.select(3);
      equal(c.get("app:1"), "three");
      c.select(0);
      c.clientSetname("mine");
      equal(c.clientGetname(), "mine");
      equal(other.clientGetname(), "worker");
    }
    fails("WRONGPASS", () -> new Jedis(ADDRESS, config(protocol).user("app").password("no").build()).ping());
    c.aclDelUser("app");
  }

  public static void main(String[] arguments) {
    Map<String, Test> tests = new LinkedHashMap<>();
    tests.put("values", Suite::values);
    tests.put("errors", Suite::errors);
    tests.put("pipeline", Suite::pipeline);
    tests.put("transactions", Suite::transactions);
    tests.put("pool", Suite::pool);
    tests.put("publish and subscribe", Suite::publishSubscribe);
    tests.put("blocking", Suite::blocking);
    tests.put("scripts", Suite::scripts);
    tests.put("scan", Suite::scan);
    tests.put("streams", Suite::streams);
    tests.put("big values", Suite::bigValues);
    tests.put("identity and databases", Suite::identity);
    int passed = 0;
    int failed = 0;
    for (RedisProtocol protocol : new RedisProtocol[] {RedisProtocol.RESP2, RedisProtocol.RESP3}) {
      for (Map.Entry<String, Test> test : tests.entrySet()) {
        String name = "jedis " + protocol + " " + test.getKey();
        try (Jedis c = connect(protocol)) {
          c.flushAll();
          test.getValue().run(c, protocol);
          passed++;
          System.out.println("ok   " + name);
        } catch (Throwable problem) {
          failed++;
          System.out.println("FAIL " + name + ": " + problem);
          problem.printStackTrace(System.out);
        }
      }
    }
    System.out.println("jedis: " + passed + " passed, " + failed + " failed");
    System.exit(failed == 0 ? 0 : 1);
  }
}
