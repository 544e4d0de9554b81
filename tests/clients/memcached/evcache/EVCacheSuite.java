import com.netflix.evcache.EVCache;
import com.netflix.evcache.EVCacheLatch;
import com.netflix.evcache.pool.EVCacheClientPoolManager;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * What applications do with Netflix's EVCache client, against
 * 127.0.0.1:$MEMCACHED_PORT. Ends with `N passed, N failed`, exit status 1 where
 * one failed.
 */
public class EVCacheSuite {
  static final String APP = "SUITE";
  static final int TIMEOUT_MS = 20_000;

  interface Test {
    void run(EVCache c) throws Exception;
  }

  static void equal(Object got, Object expected) {
    if (!java.util.Objects.equals(got, expected)) {
      throw new AssertionError("got " + got + ", expected " + expected);
    }
  }

  static void all(Future<Boolean>[] futures, boolean expected) throws Exception {
    for (Future<Boolean> future : futures) {
      equal(future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS), expected);
    }
  }

  static void values(EVCache c) throws Exception {
    all(c.set("k", "v", 100), true);
    equal(c.<String>get("k"), "v");
    equal(c.<String>get("absent"), null);
    equal(c.<String>getAsynchronous("k").get(TIMEOUT_MS, TimeUnit.MILLISECONDS), "v");
    all(c.append("k", "w", 100), true);
    equal(c.<String>get("k"), "vw");
    all(c.delete("k"), true);
    equal(c.<String>get("k"), null);
  }

  static void latches(EVCache c) throws Exception {
    EVCacheLatch latch = c.set("latched", "v", null, 100, EVCacheLatch.Policy.ALL);
    equal(latch.await(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
    equal(latch.getSuccessCount(), 1);
    EVCacheLatch refused = c.add("latched", "w", null, 100, EVCacheLatch.Policy.ALL);
    refused.await(TIMEOUT_MS, TimeUnit.MILLISECONDS);
    equal(refused.getSuccessCount(), 0);
    EVCacheLatch added = c.add("added", "w", null, 100, EVCacheLatch.Policy.ALL);
    equal(added.await(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
    equal(c.<String>get("added"), "w");
    EVCacheLatch replaced = c.replace("added", "x", null, 100, EVCacheLatch.Policy.ALL);
    equal(replaced.await(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
    equal(c.<String>get("added"), "x");
  }

  static void times(EVCache c) throws Exception {
    all(c.set("k", "v", 100), true);
    all(c.touch("k", 200), true);
    equal(c.<String>getAndTouch("k", 300), "v");
  }

  static void numbers(EVCache c) throws Exception {
    equal(c.incr("n", 1, 10, 100), 10L);
    equal(c.decr("m", 1, 20, 100), 20L);
  }

  static void many(EVCache c) throws Exception {
    List<String> keys = new ArrayList<>();
    List<Future<Boolean>[]> sets = new ArrayList<>();
    for (int number = 0; number < 500; number++) {
      keys.add("key-" + number);
      sets.add(c.set("key-" + number, "value-" + number, 100));
    }
    for (Future<Boolean>[] set : sets) {
      all(set, true);
    }
    Map<String, String> found = c.getBulk(keys);
    equal(found.size(), 500);
    equal(found.get("key-499"), "value-499");
  }

  public static void main(String[] arguments) throws Exception {
    System.setProperty("evcache.use.simple.node.list.provider", "true");
    System.setProperty(APP + "-NODES", "shard=127.0.0.1:" + System.getenv("MEMCACHED_PORT"));
    System.setProperty(APP + ".EVCacheClientPool.readTimeout", String.valueOf(TIMEOUT_MS));
    EVCacheClientPoolManager.getInstance().initEVCache(APP);
    EVCache c = new EVCache.Builder().setAppName(APP).build();
    Map<String, Test> tests = new LinkedHashMap<>();
    tests.put("values", EVCacheSuite::values);
    tests.put("latches", EVCacheSuite::latches);
    tests.put("times", EVCacheSuite::times);
    tests.put("numbers", EVCacheSuite::numbers);
    tests.put("many", EVCacheSuite::many);
    int failed = 0;
    for (Map.Entry<String, Test> test : tests.entrySet()) {
      try {
        test.getValue().run(c);
        System.out.println("ok   " + test.getKey());
      } catch (Throwable error) {
        failed++;
        System.out.println("FAIL " + test.getKey() + ": " + error);
      }
    }
    System.out.println(tests.size() - failed + " passed, " + failed + " failed");
    System.exit(failed > 0 ? 1 : 0);
  }
}
