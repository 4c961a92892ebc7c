// Drives the player page of a running station with relays that lie and die, and judges what a listener would hear. The
// relays are proxies of the station, named in its station.json by one more proxy.
//
//   node relays.mjs --url http://127.0.0.1:8080/ --ipns k51...
//
// The last line is `PASS` or `FAIL: reason`, the exit code 0 or 1. CHROMIUM names the browser, otherwise it is looked
// for in PATH.

import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, Failure, browserPath, check, say } from './chromium.mjs';
import { MARK, Proxy } from './proxy.mjs';

const START_MS = 30_000;
const SEGMENT_MS = 30_000;
/**
 * Seconds that playback may stand still with audio left to play: the browser waits for a processor then. Without, the
 * page says "waiting", and that is a gap that a listener hears.
 */
const BUSY_S = 3;
const RATE_TOLERANCE = 0.05;
/** Names that are of no secure context, unlike 127.0.0.1 and localhost. */
const NAMES = ['radio.test', 'relay-a.test', 'relay-b.test'];
const RESOLVE = `--host-resolver-rules=${NAMES.map((name) => `MAP ${name} 127.0.0.1`).join(',')}`;

/** In the page, before its scripts: whether tampered bytes reach the decoder, who hashes, and whether the sound stands still. */
function watch(mark) {
  const seen = (globalThis.seen = { appends: 0, tampered: 0, digests: 0, waits: 0, stood: 0, last: null, first: null });
  const append = SourceBuffer.prototype.appendBuffer;
  SourceBuffer.prototype.appendBuffer = function appendBuffer(data) {
    seen.appends += 1;
    if (new TextDecoder('latin1').decode(data).includes(mark)) seen.tampered += 1;
    return append.call(this, data);
  };
  const subtle = globalThis.crypto?.subtle;
  const digest = subtle?.digest.bind(subtle);
  if (subtle) {
    subtle.digest = (...from) => {
      seen.digests += 1;
      return digest(...from);
    };
  }
  setInterval(() => {
    const { audio, state } = globalThis.skywave ?? {};
    if (!audio || !seen.first) return;
    const now = { at: performance.now() / 1000, time: audio.currentTime };
    if (seen.last) seen.stood = Math.max(seen.stood, now.at - seen.last.at - (now.time - seen.last.time));
    if (state === 'waiting') seen.waits += 1;
    seen.last = now;
  }, 100);
}

function look(page) {
  return page.evaluate(() => {
    const { audio, errors, state, feed, hls } = globalThis.skywave;
    return {
      ...globalThis.seen,
      state,
      errors,
      isSecure: globalThis.isSecureContext,
      unproven: feed.unproven,
      current: feed.sources.current.base,
      proof: document.getElementById('proof').textContent,
      dropped: document.getElementById('dropped').textContent,
      words: document.getElementById('state').textContent,
      ranges: Array.from({ length: audio.buffered.length }, (_, n) => [audio.buffered.start(n), audio.buffered.end(n)]),
      time: audio.currentTime,
      newest: hls?.latestLevelDetails?.endSN ?? 0,
    };
  });
}

async function until(page, what, condition, argument, timeout = SEGMENT_MS) {
  await page.waitForFunction(condition, argument, { timeout, polling: 50 }).catch(async (cause) => {
    throw new Failure(`${what}: not within ${timeout / 1000} s: ${JSON.stringify(await look(page))} ${cause.message.split('\n')[0]}`);
  });
}

/** Waits for something to happen in a proxy. */
function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Failure(`${what}: not within ${SEGMENT_MS / 1000} s`)), SEGMENT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function open(browser, url) {
  const page = await browser.newPage({ viewport: { width: 420, height: 900 } });
  page.broken = [];
  page.asked = [];
  page.on('pageerror', (error) => page.broken.push(error.message));
  page.on('console', (message) => /Content Security Policy/.test(message.text()) && page.broken.push(message.text()));
  page.on('request', (request) => page.asked.push(request.url()));
  await page.addInitScript(watch, MARK);
  await page.goto(url);
  await page.waitForSelector('html[data-ready]', { state: 'attached', timeout: START_MS });
  return page;
}

async function play(page) {
  await page.click('#play');
  await until(page, 'playback', () => globalThis.skywave.state === 'playing' && globalThis.skywave.audio.currentTime > 0.5, null, START_MS);
  await page.evaluate(() => {
    const { audio } = globalThis.skywave;
    globalThis.seen.first = { at: performance.now() / 1000, time: audio.currentTime };
  });
}

/** Waits until so many segments more have been played through. */
async function hear(page, seconds) {
  const from = await page.evaluate(() => globalThis.skywave.audio.currentTime);
  await until(page, `${seconds} s of sound`, ([start, length]) => globalThis.skywave.audio.currentTime > start + length, [from, seconds], START_MS + seconds * 1000);
}

/** What holds at every moment of every run: no error, no tampered byte, no gap. */
async function judge(page, what) {
  const seen = await look(page);
  const all = `${what}: ${JSON.stringify(seen)}`;
  check(page.broken.length === 0, `scripts failed: ${page.broken.join('; ')}`);
  // A stall that is none to the ear is the machine's; one that is heard is judged below.
  const errors = seen.errors.filter((error) => error.fatal || error.details !== 'bufferStalledError');
  check(errors.length === 0, `errors; ${all}`);
  check(seen.state === 'playing', `it does not play; ${all}`);
  check(seen.tampered === 0 && seen.appends > 0, `tampered bytes reached the decoder; ${all}`);
  check(seen.waits === 0 && seen.stood < BUSY_S, `the sound stood still for ${seen.stood.toFixed(2)} s; ${all}`);
  check(seen.ranges.length === 1, `a hole; ${all}`);
  const rate = (seen.last.time - seen.first.time) / (seen.last.at - seen.first.at);
  check(Math.abs(rate - 1) <= RATE_TOLERANCE, `audio runs at ${rate.toFixed(3)} times real time; ${all}`);
  return seen;
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

try {
  check(values.url && values.ipns, 'no --url or no --ipns');
  await run(values);
  say('PASS');
} catch (error) {
  say(`FAIL: ${error instanceof Failure ? error.message : error.stack}`);
  process.exitCode = 1;
}
process.exit();
