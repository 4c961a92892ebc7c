// A listener at the player page: what is seen in it, and what holds at every moment.

import { Failure, check } from './chromium.mjs';
import { MARK } from './proxy.mjs';

const START_MS = 30_000;
export const SEGMENT_MS = 30_000;
/**
 * Seconds that playback may stand still with audio left to play: the browser waits for a processor then. Without, the
 * page says "waiting", and that is a gap that a listener hears.
 */
const BUSY_S = 3;
const RATE_TOLERANCE = 0.05;

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

export function look(page) {
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

export async function until(page, what, condition, argument, timeout = SEGMENT_MS) {
  await page.waitForFunction(condition, argument, { timeout, polling: 50 }).catch(async (cause) => {
    throw new Failure(`${what}: not within ${timeout / 1000} s: ${JSON.stringify(await look(page))} ${cause.message.split('\n')[0]}`);
  });
}

export async function open(browser, url) {
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

export async function play(page) {
  await page.click('#play');
  await until(page, 'playback', () => globalThis.skywave.state === 'playing' && globalThis.skywave.audio.currentTime > 0.5, null, START_MS);
  await page.evaluate(() => {
    const { audio } = globalThis.skywave;
    globalThis.seen.first = { at: performance.now() / 1000, time: audio.currentTime };
  });
}

/** Waits until so many segments more have been played through. */
export async function hear(page, seconds) {
  const from = await page.evaluate(() => globalThis.skywave.audio.currentTime);
  await until(page, `${seconds} s of sound`, ([start, length]) => globalThis.skywave.audio.currentTime > start + length, [from, seconds], START_MS + seconds * 1000);
}

/** What holds at every moment of every run: no error, no tampered byte, no gap. */
export async function judge(page, what) {
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
