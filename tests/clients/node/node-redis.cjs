// What applications do with node-redis, with RESP2 or RESP3 (first argument).
'use strict';

const assert = require('assert');
const { createClient, createClientPool, RESP_TYPES } = require('redis');
const { version } = require('redis/package.json');
const { run, waitFor, port, big } = require('./runner.cjs');

const RESP = Number(process.argv[2] ?? 3);
let c;

async function connect(options = {}) {
  const client = createClient({ RESP, socket: { host: '127.0.0.1', port }, ...options });
  client.on('error', () => {});
  return client.connect();
}

const tests = {
  async values() {
    assert.equal(await c.set('k', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
    assert.equal(await c.get('k'), 'v');
    assert.ok((await c.ttl('k')) > 0);
    assert.equal(await c.set('k', 'w', { condition: 'NX' }), null);
    assert.equal(await c.incrBy('n', 5), 5);
    assert.deepEqual(await c.mGet(['k', 'absent']), ['v', null]);
    assert.equal(await c.del(['k', 'absent']), 1);
    assert.equal(await c.hSet('h', { x: '1', y: '2' }), 2);
    assert.deepEqual({ ...(await c.hGetAll('h')) }, { x: '1', y: '2' });
    assert.equal(await c.zAdd('z', [{ score: 1.5, value: 'a' }]), 1);
    assert.equal(await c.zScore('z', 'a'), 1.5);
    assert.equal(await c.sAdd('s', ['a', 'b']), 2);
    assert.ok(['a', 'b'].includes(await c.sPop('s')));
    assert.deepEqual(await c.rPush('l', ['1', '2']), 2);
    assert.deepEqual(await c.lRange('l', 0, -1), ['1', '2']);
  },
  async errors() {
    await c.set('text', 'abc');
    await assert.rejects(c.incr('text'), /not an integer/);
    await assert.rejects(c.lPush('text', 'x'), /WRONGTYPE/);
    await assert.rejects(c.sendCommand(['NOSUCH']), /unknown command/);
    assert.equal(await c.get('text'), 'abc');
  },
  async pipeline() {
    const replies = await Promise.all(
      Array.from({ length: 5000 }, (_, i) => [c.set(`p${i}`, String(i)), c.get(`p${i}`)]).flat(),
    );
    replies.forEach((reply, i) => assert.equal(reply, i % 2 ? String((i - 1) / 2) : 'OK'));
  },
  async transactions() {
    assert.deepEqual([...(await c.multi().set('t', '1').incr('t').get('t').exec())], ['OK', 2, '2']);
    const watcher = await connect();
    await watcher.watch('t');
    await c.set('t', '99');
    await assert.rejects(watcher.multi().set('t', '0').exec());
    await watcher.watch('t');
    assert.deepEqual([...(await watcher.multi().set('t', '100').exec())], ['OK']);
    assert.equal(await c.get('t'), '100');
    watcher.destroy();
  },
  async pool() {
    const pool = createClientPool({ RESP, socket: { host: '127.0.0.1', port } }, { minimum: 1, maximum: 8 });
    pool.on('error', () => {});
    await pool.connect();
    await Promise.all(Array.from({ length: 1000 }, () => pool.incr('counter')));
    assert.equal(await pool.get('counter'), '1000');
    await pool.close();
  },
  async publishSubscribe() {
    const subscriber = await connect();
    const got = [];
    await subscriber.subscribe('news', (message) => got.push(message));
    await subscriber.pSubscribe('w*', (message) => got.push(message));
    for (let i = 0; i < 100; i += 1) assert.equal(await c.publish('news', String(i)), 1);
    await c.publish('weather', 'rain');
    await waitFor(async () => { await c.ping(); return got.length === 101; });
    assert.deepEqual(got, [...Array.from({ length: 100 }, (_, i) => String(i)), 'rain']);
    await subscriber.unsubscribe('news');
    await subscriber.pUnsubscribe('w*');
    assert.equal(await c.publish('news', 'unheard'), 0);
    assert.equal(await subscriber.ping(), 'PONG');
    subscriber.destroy();
  },
  async blocking() {
    const waiter = await connect();
    const popped = waiter.blPop('q', 10);
    await waitFor(async () => /blocked_clients:1/.test(await c.info('clients')));
    assert.equal(await c.rPush('q', 'job'), 1);
    assert.deepEqual({ ...(await popped) }, { key: 'q', element: 'job' });
    assert.equal(await waiter.blPop('q', 0.05), null);
    waiter.destroy();
  },
  async scripts() {
    assert.equal(await c.eval("return redis.call('SET', KEYS[1], ARGV[1])", { keys: ['lua'], arguments: ['x'] }), 'OK');
    const sha = await c.scriptLoad("return redis.call('GET', KEYS[1])");
    assert.equal(await c.evalSha(sha, { keys: ['lua'] }), 'x');
    await assert.rejects(c.evalSha('0'.repeat(40)), /NOSCRIPT/);
  },
  async scan() {
    await Promise.all(Array.from({ length: 1000 }, (_, i) => c.set(`scan:${i}`, '1')));
    const found = new Set();
    for await (const keys of c.scanIterator({ MATCH: 'scan:*', COUNT: 50 })) keys.forEach((key) => found.add(key));
    assert.equal(found.size, 1000);
  },
  async streams() {
    const first = await c.xAdd('st', '*', { n: '1' });
    const second = await c.xAdd('st', '*', { n: '2' });
    assert.equal(await c.xGroupCreate('st', 'g', '0'), 'OK');
    const read = await c.sendCommand(['XREADGROUP', 'GROUP', 'g', 'me', 'COUNT', '10', 'STREAMS', 'st', '>']);
    assert.ok(JSON.stringify(read).includes(first) && JSON.stringify(read).includes(second));
    assert.equal(await c.xAck('st', 'g', first), 1);
    assert.equal((await c.xPending('st', 'g')).pending, 1);
    assert.equal((await c.xRange('st', '-', '+')).length, 2);
  },
  async bigValues() {
    const raw = c.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    assert.equal(await raw.set('large', big), 'OK');
    assert.ok(big.equals(await raw.get('large')));
  },
  async identityAndDatabases() {
    await c.aclSetUser('app', ['reset', 'on', '>pw', '+@all', '~app:*']);
    const other = await connect({ username: 'app', password: 'pw', database: 3, name: 'worker' });
    assert.equal(await other.aclWhoAmI(), 'app');
    assert.equal(await other.clientGetName(), 'worker');
    await other.set('app:1', 'three');
    assert.equal(await c.get('app:1'), null);
    await assert.rejects(other.set('else', 'x'), /NOPERM/);
    await c.select(3);
    assert.equal(await c.get('app:1'), 'three');
    await c.select(0);
    await c.clientSetName('mine');
    assert.equal(await c.clientGetName(), 'mine');
    assert.equal(await other.clientGetName(), 'worker');
    await assert.rejects(connect({ username: 'app', password: 'no', socket: { host: '127.0.0.1', port, reconnectStrategy: false } }));
    other.destroy();
    await c.aclDelUser('app');
  },
};

(async () => {
  c = await connect();
  await run(`node-redis ${version} RESP${RESP}`, tests, () => c.flushAll());
})();
