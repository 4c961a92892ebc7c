// Drives the player page of a running station with relays that lie and die, and judges what a listener would hear. The
// relays are proxies of the station, named in its station.json by one more proxy.
//
//   node relays.mjs --url http://127.0.0.1:8080/ --ipns k51...
//
// The last line is `PASS` or `FAIL: reason`, the exit code 0 or 1. CHROMIUM names the browser, otherwise it is looked
// for in PATH.

import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, Failure, browserPath, check, say, verdict } from './chromium.mjs';
import { SEGMENT_MS, hear, judge, look, open, play, until } from './listener.mjs';
import { Proxy } from './proxy.mjs';

/** Names that are of no secure context, unlike 127.0.0.1 and localhost. */
const NAMES = ['radio.test', 'relay-a.test', 'relay-b.test'];
const RESOLVE = `--host-resolver-rules=${NAMES.map((name) => `MAP ${name} 127.0.0.1`).join(',')}`;

/** Waits for something to happen in a proxy. */
function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Failure(`${what}: not within ${SEGMENT_MS / 1000} s`)), SEGMENT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** So far apart that no busy machine turns them round. */
async function startProxies(url, names) {
  const [own, liar, mortal] = await Promise.all([
    new Proxy(url, { name: names[0], delayMs: 1000 }).start(),
    new Proxy(url, { name: names[1] }).start(),
    new Proxy(url, { name: names[2], delayMs: 400 }).start(),
  ]);
  own.relays = [{ peer: 'mortal', http: [mortal.url], listeners: 1 }, { peer: 'liar', http: [liar.url], listeners: 2 }];
  return { own, liar, mortal };
}

async function playsNearest(page, nearest) {
  await until(page, `the nearest, ${nearest.url}`, (url) => globalThis.skywave.feed.sources.current.base === url, nearest.url);
  await hear(page, 5);
  const seen = await judge(page, 'on the nearest relay');
  check(seen.unproven === null && /checked against the signature of k51/.test(seen.proof), `the page says ${seen.proof}`);
  check(seen.proof.includes(new URL(nearest.url).host), `the page does not name the relay: ${seen.proof}`);
}

async function dropsTheLiar(page, { liar }, next) {
  const path = await within('a segment to tamper with', liar.lie());
  await until(page, 'the name of the relay that lies', (host) => document.getElementById('dropped').textContent.includes(host), new URL(liar.url).host);
  const asked = liar.sent.length;
  await hear(page, 9);
  const seen = await judge(page, 'after the lie');
  check(/is not asked any more: it sent a segment that the station did not sign/.test(seen.dropped), `the page says ${seen.dropped}`);
  check(seen.current === next.url, `it plays from ${seen.current} instead of ${next.url}`);
  check(next.sent.includes(path), `${path} was not asked of another`);
  check(liar.sent.length === asked, 'the liar was asked again');
  say(`a tampered ${path} was thrown away, its sender dropped`);
}

async function outlivesTheDead(page, { own, mortal }) {
  const path = await within('a segment to die in', mortal.die());
  await hear(page, 9);
  const seen = await judge(page, 'after a death in mid-segment');
  check(seen.current === own.url, `it plays from ${seen.current} instead of its own server`);
  check(own.sent.includes(path), `${path} was not asked of another`);
  check(!seen.dropped.includes(new URL(mortal.url).host), `a dead relay is called a liar: ${seen.dropped}`);
  say(`a death in the middle of ${path} was not heard`);
}

async function outlivesItsOwnServer(page, { own, mortal }) {
  await mortal.start(mortal.port);
  await own.stop();
  await until(page, 'the revived relay', (url) => globalThis.skywave.feed.sources.current.base === url, mortal.url);
  await hear(page, 15);
  const seen = await judge(page, 'without the server of the page');
  check(seen.words === 'On air', `the page says ${seen.words}`);
  say('the server of the page itself was not missed');
}

/** On plain http: hashes by @noble. */
async function plainHttp(browser, url) {
  const proxies = await startProxies(url, NAMES);
  const page = await open(browser, `${proxies.own.url}/`);
  await play(page);
  await playsNearest(page, proxies.liar);
  const { isSecure } = await look(page);
  check(!isSecure && page.asked.some((path) => path.endsWith('/assets/noble/sha2.js')), 'this is a secure context');
  await dropsTheLiar(page, proxies, proxies.mortal);
  await outlivesTheDead(page, proxies);
  await outlivesItsOwnServer(page, proxies);
  await page.close();
  await proxies.liar.stop();
  await proxies.mortal.stop();
}

/** On a loopback address, which browsers take for secure: hashes by WebCrypto. */
async function secureContext(browser, url) {
  const proxies = await startProxies(url, ['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  const page = await open(browser, `${proxies.own.url}/`);
  await play(page);
  await playsNearest(page, proxies.liar);
  await dropsTheLiar(page, proxies, proxies.mortal);
  const { isSecure, digests } = await look(page);
  check(isSecure && digests > 5 && !page.asked.some((path) => path.includes('/noble')), `${digests} digests of WebCrypto`);
  await page.close();
  await Promise.all(Object.values(proxies).map((proxy) => proxy.stop()));
}

/** The station itself, under the name for which it moves content to origins of its own. */
async function namedStation(browser, url, ipns) {
  const { port } = new URL(url);
  const page = await open(browser, `http://localhost:${port}/#${ipns}`);
  await play(page);
  await hear(page, 5);
  const seen = await judge(page, 'a station that the address names');
  check(seen.unproven === null, `it is not verified: ${seen.proof}`);
  await page.close();
  const other = `${ipns.slice(0, -6)}${[...ipns.slice(-6)].reverse().join('')}`;
  const wrong = await open(browser, `http://localhost:${port}/#${other}`);
  await wrong.click('#play');
  await until(wrong, 'a refusal', () => /off the air: .*(record|station)/.test(document.getElementById('state').textContent));
  const { appends, proof, words } = await look(wrong);
  check(appends === 0 && /Not verified/.test(proof), `another station plays: ${proof}`);
  say(`another station than the one asked for: ${words}`);
  await wrong.close();
}

async function run({ url, ipns }) {
  const browser = await chromium.launch({ executablePath: browserPath(), args: [...FLAGS, RESOLVE] });
  try {
    await plainHttp(browser, url);
    await secureContext(browser, url);
    await namedStation(browser, url, ipns);
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({ options: { url: { type: 'string' }, ipns: { type: 'string' } } });

await verdict(async () => {
  check(values.url && values.ipns, 'no --url or no --ipns');
  await run(values);
});
process.exit();
