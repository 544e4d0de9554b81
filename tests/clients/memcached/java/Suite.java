import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Protocol;
import net.spy.memcached.MemcachedClient;

/**
 * What applications do with spymemcached, against 127.0.0.1:$MEMCACHED_PORT, in
 * text and binary. Ends with `N passed, N failed`, exit status 1 where one failed.
 */
public class Suite {
  static final int TIMEOUT_MS = 20_000;

  interface Test {
    void run(MemcachedClient c, Protocol protocol) throws Exception;
  }

  static MemcachedClient connect(Protocol protocol) throws Exception {
    return new MemcachedClient(
        new ConnectionFactoryBuilder()
            .setProtocol(protocol)
            .setOpTimeout(TIMEOUT_MS)
            .setDaemon(true)
            .build(),
        List.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("MEMCACHED_PORT")))));
  }

  static void equal(Object got, Object expected) {
    if (!java.util.Objects.deepEquals(got, expected)) {
      throw new AssertionError("got " + got + ", expected " + expected);
    }
  }

  static <T> T wait(Future<T> future) throws Exception {
    return future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
  }

  static void values(MemcachedClient c, Protocol protocol) throws Exception {
    equal(wait(c.set("k", 100, "v")), true);
    equal(c.get("k"), "v");
    equal(c.get("absent"), null);
    equal(wait(c.add("k", 0, "w")), false);
    equal(wait(c.replace("k", 0, "w")), true);
    equal(wait(c.replace("absent", 0, "w")), false);
    equal(wait(c.append("k", "x")), true);
    equal(wait(c.prepend("k", "y")), true);
    equal(c.get("k"), "ywx");
    equal(wait(c.delete("k")), true);
    equal(wait(c.delete("k")), false);
    byte[] big = new byte[900_000];
    new Random(1).nextBytes(big);
    equal(wait(c.set("big", 0, big)), true);
    equal(Arrays.equals((byte[]) c.get("big"), big), true);
  }

  static void compares(MemcachedClient c, Protocol protocol) throws Exception {
    equal(wait(c.set("k", 0, "v")), true);
    CASValue<Object> found = c.gets("k");
    equal(found.getValue(), "v");
    equal(c.cas("k", found.getCas(), "w"), CASResponse.OK);
    equal(c.cas("k", found.getCas(), "x"), CASResponse.EXISTS);
    equal(wait(c.asyncCAS("absent", 1, "x")), CASResponse.NOT_FOUND);
  }

  static void numbers(MemcachedClient c, Protocol protocol) throws Exception {
    equal(wait(c.set("n", 0, "10")), true);
    equal(c.incr("n", 5), 15L);
    equal(c.decr("n", 20), 0L);
    equal(c.incr("absent", 1), -1L);
    equal(c.incr("made", 1, 7L), 7L);
    equal(c.incr("made", 1, 7L), 8L);
  }

  static void times(MemcachedClient c, Protocol protocol) throws Exception {
    equal(wait(c.set("k", 100, "v")), true);
    equal(wait(c.touch("k", 200)), true);
    equal(wait(c.touch("absent", 200)), false);
    if (protocol == Protocol.BINARY) {
      equal(c.getAndTouch("k", 300).getValue(), "v");
    }
  }

  static void many(MemcachedClient c, Protocol protocol) throws Exception {
    List<String> keys = new ArrayList<>();
    List<Future<Boolean>> sets = new ArrayList<>();
    for (int number = 0; number < 1000; number++) {
      keys.add("key-" + number);
      sets.add(c.set("key-" + number, 0, "value-" + number));
    }
    for (Future<Boolean> set : sets) {
      equal(wait(set), true);
    }
    keys.add("absent");
    Map<String, Object> found = c.getBulk(keys);
    equal(found.size(), 1000);
    equal(found.get("key-999"), "value-999");
  }

  static void rest(MemcachedClient c, Protocol protocol) throws Exception {
    equal(c.getVersions().size(), 1);
    equal(c.getStats().values().iterator().next().containsKey("curr_items"), true);
    equal(wait(c.set("k", 0, "v")), true);
    equal(wait(c.flush()), true);
    equal(c.get("k"), null);
  }

  public static void main(String[] arguments) throws Exception {
    System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
    Logger.getLogger("net.spy").setLevel(Level.SEVERE);
    Map<String, Test> tests = new LinkedHashMap<>();
    tests.put("values", Suite::values);
    tests.put("compares", Suite::compares);
    tests.put("numbers", Suite::numbers);
    tests.put("times", Suite::times);
    tests.put("many", Suite::many);
    tests.put("rest", Suite::rest);
    int passed = 0;
    int failed = 0;
    for (Protocol protocol : Protocol.values()) {
      for (Map.Entry<String, Test> test : tests.entrySet()) {
        MemcachedClient c = connect(protocol);
        try {
          wait(c.flush());
          test.getValue().run(c, protocol);
          passed++;
          System.out.println("ok   " + protocol + " " + test.getKey());
        } catch (Throwable error) {
          failed++;
          System.out.println("FAIL " + protocol + " " + test.getKey() + ": " + error);
        } finally {
          c.shutdown();
        }
      }
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed > 0 ? 1 : 0);
  }
}
