// Drives the player page of a real station with real relays, whose processes are killed under it one by one.
//
//   node boards.mjs --url http://127.0.0.1:8080/ --kills 2
//
// Prints `KILL <url>` with the server that the page plays from, and waits for a line on stdin once its process is dead. The
// last line is `PASS` or `FAIL: reason`, the exit code 0 or 1.

import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, browserPath, check, say, verdict } from './chromium.mjs';
import { hear, judge, look, open, play, until } from './listener.mjs';

/** Of sound that is heard on each server, in seconds: longer than what the page has in store. */
const HEARD_S = 25;

/** What holds on every server: the sound goes on, checked against the station's signature. */
async function verified(page, what) {
  const seen = await judge(page, what);
  check(seen.unproven === null && /checked against the signature of k51/.test(seen.proof), `${what}: the page says ${seen.proof}`);
  check(seen.dropped === '', `${what}: an honest server was dropped: ${seen.dropped}`);
  return seen;
}

async function run({ url, kills }) {
  const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const browser = await chromium.launch({ executablePath: browserPath(), args: FLAGS });
  try {
    const page = await open(browser, url);
    await play(page);
    await until(page, 'the relays', (count) => globalThis.skywave.feed.sources.all().length > count, Number(kills));
    await hear(page, 5);
    await verified(page, 'before any death');
    for (let killed = 1; killed <= Number(kills); killed += 1) {
      const { current } = await look(page);
      say(`KILL ${current}`);
      check(!(await told.next()).done, 'nobody killed it');
      await until(page, `another server than ${current}`, (dead) => globalThis.skywave.feed.sources.current.base !== dead, current);
      await hear(page, HEARD_S);
      const { current: now } = await verified(page, `after death ${killed}`);
      say(`the death of ${current} was not heard, ${now} went on`);
    }
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({ options: { url: { type: 'string' }, kills: { type: 'string', default: '2' } } });

await verdict(async () => {
  check(values.url, 'no --url');
  await run(values);
});
process.exit();
