// Runs named tests one after the other against 127.0.0.1:$REDIS_PORT, prints a
// line for each and `N passed, N failed` at the end; exit status 1 where one
// failed or did not end.
'use strict';

const TIMEOUT_MS = 30000;

async function run(title, tests, before) {
  let passed = 0;
  let failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('did not end')), TIMEOUT_MS);
    });
    try {
      await Promise.race([Promise.resolve(before()).then(test), late]);
      passed += 1;
      console.log(`ok   ${title} ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${title} ${name}\n${error.stack}`);
    } finally {
      clearTimeout(timer);
    }
  }
  console.log(`${title}: ${passed} passed, ${failed} failed`);
  // Connections a failed test left open must not keep the process.
  process.exit(failed === 0 ? 0 : 1);
}

// Polls a condition that nothing announces.
async function waitFor(condition) {
  const end = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error('waited in vain');
  }
}

module.exports = { run, waitFor, port: Number(process.env.REDIS_PORT), big: require('crypto').randomBytes(10 * 1024 * 1024) };
