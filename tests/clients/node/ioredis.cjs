// What applications do with ioredis.
'use strict';

const assert = require('assert');
const Redis = require('ioredis');
const { version } = require('ioredis/package.json');
const { run, waitFor, port, big } = require('./runner.cjs');

function connect(options = {}) {
  const client = new Redis({ host: '127.0.0.1', port, ...options });
  client.on('error', () => {});
  return client;
}

const c = connect();

const tests = {
  async values() {
    assert.equal(await c.set('k', 'v', 'EX', 100), 'OK');
    assert.equal(await c.get('k'), 'v');
    assert.equal(await c.set('k', 'w', 'NX'), null);
    assert.equal(await c.incrby('n', 5), 5);
    assert.deepEqual(await c.mget('k', 'absent'), ['v', null]);
    assert.equal(await c.del('k', 'absent'), 1);
    await c.hset('h', { x: 1, y: 2 });
    assert.deepEqual({ ...(await c.hgetall('h')) }, { x: '1', y: '2' });
    await c.zadd('z', 1.5, 'a');
    assert.equal(String(await c.zscore('z', 'a')), '1.5');
    await c.rpush('l', 1, 2);
    assert.deepEqual(await c.lrange('l', 0, -1), ['1', '2']);
  },
  async errors() {
    await c.set('text', 'abc');
    await assert.rejects(c.incr('text'), /not an integer/);
    await assert.rejects(c.lpush('text', 'x'), /WRONGTYPE/);
    await assert.rejects(c.call('NOSUCH'), /unknown command/);
    assert.equal(await c.get('text'), 'abc');
  },
  async pipeline() {
    const pipeline = c.pipeline();
    for (let i = 0; i < 5000; i += 1) pipeline.set(`p${i}`, i).get(`p${i}`);
    const replies = await pipeline.exec();
    replies.forEach(([error, reply], i) => {
      assert.equal(error, null);
      assert.equal(reply, i % 2 ? String((i - 1) / 2) : 'OK');
    });
    const [, [error]] = await c.pipeline().set('text', 'abc').incr('text').exec();
    assert.match(error.message, /not an integer/);
  },
  async automaticPipeline() {
    const automatic = connect({ enableAutoPipelining: true });
    const replies = await Promise.all(Array.from({ length: 1000 }, () => automatic.incr('auto')));
    assert.deepEqual(replies, Array.from({ length: 1000 }, (_, i) => i + 1));
    automatic.disconnect();
  },
  async transactions() {
    assert.deepEqual(await c.multi().set('t', 1).incr('t').get('t').exec(), [[null, 'OK'], [null, 2], [null, '2']]);
    const watcher = connect();
    await watcher.watch('t');
    await c.set('t', 99);
    assert.equal(await watcher.multi().set('t', 0).exec(), null);
    assert.equal(await c.get('t'), '99');
    await watcher.multi({ pipeline: false });
    assert.equal(await watcher.set('t', 5), 'QUEUED');
    assert.equal(await watcher.discard(), 'OK');
    assert.equal(await c.get('t'), '99');
    watcher.disconnect();
  },
  async manyConnections() {
    const clients = Array.from({ length: 20 }, () => connect());
    await Promise.all(clients.flatMap((client) => Array.from({ length: 100 }, () => client.incr('counter'))));
    assert.equal(await c.get('counter'), '2000');
    clients.forEach((client) => client.disconnect());
  },
  async publishSubscribe() {
    const subscriber = connect();
    const got = [];
    subscriber.on('message', (_, message) => got.push(message));
    subscriber.on('pmessage', (_, __, message) => got.push(message));
    assert.equal(await subscriber.subscribe('news'), 1);
    assert.equal(await subscriber.psubscribe('w*'), 2);
    for (let i = 0; i < 100; i += 1) assert.equal(await c.publish('news', i), 1);
    await c.publish('weather', 'rain');
    await waitFor(async () => { await c.ping(); return got.length === 101; });
    assert.deepEqual(got, [...Array.from({ length: 100 }, (_, i) => String(i)), 'rain']);
    await subscriber.unsubscribe('news');
    await subscriber.punsubscribe('w*');
    // Out of subscriber mode: an ordinary connection again.
    assert.equal(await subscriber.set('after', 'x'), 'OK');
    assert.equal(await c.publish('news', 'unheard'), 0);
    subscriber.disconnect();
  },
  async blocking() {
    const waiter = connect();
    const popped = waiter.blpop('q', 10);
    await waitFor(async () => /blocked_clients:1/.test(await c.info('clients')));
    assert.equal(await c.rpush('q', 'job'), 1);
    assert.deepEqual(await popped, ['q', 'job']);
    assert.equal(await waiter.blpop('q', 0.05), null);
    waiter.disconnect();
  },
  async scripts() {
    assert.equal(await c.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, 'lua', 'x'), 'OK');
    c.defineCommand('fetch', { numberOfKeys: 1, lua: "return {redis.call('GET', KEYS[1]), 7}" });
    assert.deepEqual(await c.fetch('lua'), ['x', 7]);
    await assert.rejects(c.evalsha('0'.repeat(40), 0), /NOSCRIPT/);
  },
  async scan() {
    const pipeline = c.pipeline();
    for (let i = 0; i < 1000; i += 1) pipeline.set(`scan:${i}`, 1);
    await pipeline.exec();
    const found = new Set();
    for await (const keys of c.scanStream({ match: 'scan:*', count: 50 })) keys.forEach((key) => found.add(key));
    assert.equal(found.size, 1000);
  },
  async streams() {
    const first = await c.xadd('st', '*', 'n', 1);
    const second = await c.xadd('st', '*', 'n', 2);
    await c.xgroup('CREATE', 'st', 'g', '0');
    const read = JSON.stringify(await c.xreadgroup('GROUP', 'g', 'me', 'COUNT', 10, 'STREAMS', 'st', '>'));
    assert.ok(read.includes(first) && read.includes(second));
    assert.equal(await c.xack('st', 'g', first), 1);
    assert.equal((await c.xpending('st', 'g'))[0], 1);
  },
  async bigValues() {
    assert.equal(await c.set('large', big), 'OK');
    assert.ok(big.equals(await c.getBuffer('large')));
    const pipeline = c.pipeline();
    for (let i = 0; i < 4; i += 1) pipeline.set(`large${i}`, big).getBuffer(`large${i}`);
    const replies = await pipeline.exec();
    replies.forEach(([error, reply], i) => assert.ok(error === null && (i % 2 === 0 || big.equals(reply))));
  },
  async identityAndDatabases() {
    await c.call('ACL', 'SETUSER', 'app', 'reset', 'on', '>pw', '+@all', '~app:*');
    const other = connect({ username: 'app', password: 'pw', db: 3, connectionName: 'worker' });
    assert.equal(await other.call('ACL', 'WHOAMI'), 'app');
    assert.equal(await other.client('GETNAME'), 'worker');
    await other.set('app:1', 'three');
    assert.equal(await c.get('app:1'), null);
    await assert.rejects(other.set('else', 'x'), /NOPERM/);
    await c.select(3);
    assert.equal(await c.get('app:1'), 'three');
    await c.select(0);
    await c.client('SETNAME', 'mine');
    assert.equal(await c.client('GETNAME'), 'mine');
    assert.equal(await other.client('GETNAME'), 'worker');
    other.disconnect();
    await c.call('ACL', 'DELUSER', 'app');
  },
};

run(`ioredis ${version}`, tests, () => c.flushall());
