// What applications do with memjs (binary) and memcached (text), against
// 127.0.0.1:$MEMCACHED_PORT. Ends with `N passed, N failed`, exit status 1 where
// one failed.
'use strict';

const assert = require('assert');
const { promisify } = require('util');
const memjs = require('memjs');
const Memcached = require('memcached');

const address = `127.0.0.1:${process.env.MEMCACHED_PORT}`;
const big = require('crypto').randomBytes(900000);

async function withMemjs(test) {
  const c = memjs.Client.create(address, { timeout: 20, retries: 0 });
  await c.flush();
  try {
    await test(c);
  } finally {
    c.quit();
  }
}

async function withMemcached(test) {
  const c = new Memcached(address, { timeout: 20000, retries: 0 });
  const names = ['set', 'get', 'gets', 'getMulti', 'cas', 'add', 'replace', 'append', 'prepend',
    'incr', 'decr', 'del', 'touch', 'flush', 'version', 'stats'];
  const p = {};
  for (const name of names) p[name] = promisify(c[name].bind(c));
  await p.flush();
  try {
    await test(p);
  } finally {
    c.end();
  }
}

const tests = {
  'memjs values': () => withMemjs(async (c) => {
    assert.equal(await c.set('k', 'v', { expires: 100 }), true);
    const found = await c.get('k');
    assert.equal(found.value.toString(), 'v');
    assert.equal((await c.get('absent')).value, null);
    assert.equal(await c.add('k', 'w'), false);
    assert.equal(await c.add('new', 'w'), true);
    assert.equal(await c.replace('k', 'w'), true);
    assert.equal(await c.replace('absent', 'w'), false);
    assert.equal(await c.append('k', 'x'), true);
    assert.equal((await c.get('k')).value.toString(), 'wx');
    assert.equal(await c.delete('k'), true);
    assert.equal(await c.delete('k'), false);
    assert.equal(await c.touch('new', 200), true);
  }),
  'memjs numbers': () => withMemjs(async (c) => {
    const count = (name, amount, options) => new Promise((resolve, reject) =>
      c[name]('n', amount, options, (error, done, value) => (error ? reject(error) : resolve(value))));
    assert.equal(await count('increment', 3, { initial: 5 }), 5);
    assert.equal(await count('increment', 3, {}), 8);
    assert.equal(await count('decrement', 10, {}), 0);
  }),
  'memjs large values and many at once': () => withMemjs(async (c) => {
    assert.equal(await c.set('big', big), true);
    assert.ok((await c.get('big')).value.equals(big));
    const keys = Array.from({ length: 200 }, (_, number) => `key-${number}`);
    await Promise.all(keys.map((key) => c.set(key, key)));
    const found = await Promise.all(keys.map((key) => c.get(key)));
    assert.deepEqual(found.map((one) => one.value.toString()), keys);
  }),
  'memjs statistics': () => withMemjs(async (c) => {
    await c.set('k', 'v');
    const found = await new Promise((resolve, reject) =>
      c.stats((error, server, values) => (error ? reject(error) : resolve(values))));
    assert.ok(found.curr_items >= 0);
  }),
  'memcached values': () => withMemcached(async (c) => {
    assert.equal(await c.set('k', 'v', 100), true);
    assert.equal(await c.get('k'), 'v');
    assert.equal(await c.get('absent'), undefined);
    await assert.rejects(c.add('k', 'w', 0));
    assert.equal(await c.add('new', { a: 1 }, 0), true);
    assert.deepEqual(await c.get('new'), { a: 1 });
    assert.equal(await c.replace('k', 'w', 0), true);
    assert.equal(await c.append('k', 'x'), true);
    assert.equal(await c.prepend('k', 'y'), true);
    assert.equal(await c.get('k'), 'ywx');
    assert.equal(await c.touch('k', 200), true);
    assert.equal(await c.del('k'), true);
    assert.equal(await c.del('k'), false);
  }),
  'memcached compares': () => withMemcached(async (c) => {
    await c.set('k', 'v', 0);
    const found = await c.gets('k');
    assert.equal(await c.cas('k', 'w', found.cas, 0), true);
    assert.equal(await c.cas('k', 'x', found.cas, 0), false);
  }),
  'memcached many and numbers': () => withMemcached(async (c) => {
    const keys = Array.from({ length: 200 }, (_, number) => `key-${number}`);
    await Promise.all(keys.map((key) => c.set(key, key, 0)));
    const found = await c.getMulti([...keys, 'absent']);
    assert.equal(Object.keys(found).length, 200);
    await c.set('n', 10, 0);
    assert.equal(await c.incr('n', 5), 15);
    assert.equal(await c.decr('n', 20), 0);
    assert.equal(await c.incr('absent', 1), false);
    assert.equal((await c.version())[0].major, '1');
    assert.ok((await c.stats())[0].pid > 0);
  }),
};

async function main() {
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
      console.log(`ok   ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}\n${error.stack}`);
    }
  }
  console.log(`${Object.keys(tests).length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

main();
