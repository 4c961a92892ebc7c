// Plays a live stream from any HTTP gateway with hls.js as it comes, in headless Chromium: what somebody else's
// player on somebody else's gateway gets.
//
//   node gateway.mjs --url http://127.0.0.1:8080/ipns/<name>/stream.m3u8 --hls <address of hls.js> --seconds 60
//
// The last line is `PASS` or `FAIL: reason`, the exit code 0 or 1. CHROMIUM names the browser, otherwise it is looked
// for in PATH.

import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, Failure, browserPath, check, say, verdict } from './chromium.mjs';

const START_MS = 30_000;
/** Seconds that playback may stand still between two looks, a second apart. */
const STALL_S = 0.5;
/** The same, with audio left to play: the browser waits for a processor then. */
const BUSY_S = 3;
/** Share by which the player's clock may differ from the wall clock. */
const RATE_TOLERANCE = 0.05;

/** An audio element that hls.js feeds, with everything it has to say kept in `heard`. */
function play(url) {
  const { Hls } = globalThis;
  const audio = document.body.appendChild(document.createElement('audio'));
  const heard = (globalThis.heard = { audio, errors: [], slowest: 0, segments: [] });
  const hls = new Hls({ enableWorker: false });
  hls.on(Hls.Events.ERROR, (_, { type, details, fatal, response, error }) => {
    heard.errors.push({ type, details, fatal, code: response?.code, message: error?.message });
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, { frag }) => {
    const { start, end } = frag.stats.loading;
    heard.slowest = Math.max(heard.slowest, (end - start) / 1000 / frag.duration);
    if (frag.sn !== 'initSegment') heard.segments.push(frag.sn);
  });
  hls.loadSource(url);
  hls.attachMedia(audio);
  audio.play().catch((error) => heard.errors.push({ type: 'play', message: error.message }));
}

function look(page) {
  return page.evaluate(() => {
    const { audio, errors, slowest, segments } = globalThis.heard;
    return {
      now: performance.now() / 1000,
      time: audio.currentTime,
      ranges: Array.from({ length: audio.buffered.length }, (_, n) => [audio.buffered.start(n), audio.buffered.end(n)]),
      errors,
      slowest,
      segments,
    };
  });
}

function judge(sample, before) {
  const seen = JSON.stringify(sample);
  check(sample.errors.length === 0, `hls.js errors: ${seen}`);
  check(sample.ranges.length === 1, `${sample.ranges.length} buffered ranges: ${seen}`);
  const stood = sample.now - before.now - (sample.time - before.time);
  // With audio left to play it is the browser that waits for a processor, not the stream.
  const ahead = Math.max(...sample.ranges.map(([, end]) => end)) - sample.time;
  check(stood < (ahead > 1 ? BUSY_S : STALL_S), `playback stood still for ${stood.toFixed(2)} s: ${seen}`);
  check(sample.slowest < 1, `a segment took ${sample.slowest.toFixed(2)} times its duration: ${seen}`);
}

async function listen(page, seconds) {
  const first = await look(page);
  let last = first;
  while (last.now - first.now < seconds) {
    await page.waitForTimeout(1000);
    const sample = await look(page);
    judge(sample, last);
    last = sample;
  }
  const rate = (last.time - first.time) / (last.now - first.now);
  check(Math.abs(rate - 1) <= RATE_TOLERANCE, `audio runs at ${rate.toFixed(3)} times real time`);
  const jumps = last.segments.filter((sn, n) => n > 0 && sn !== last.segments[n - 1] + 1);
  check(jumps.length === 0, `segments out of order: ${last.segments.join(' ')}`);
  say(`${seconds} s at ${rate.toFixed(4)} times real time, ${last.segments.length} segments, ` +
    `the slowest within ${(last.slowest * 100).toFixed(0)} % of its duration`);
}

async function run({ url, hls, seconds }) {
  const browser = await chromium.launch({ executablePath: browserPath(), args: FLAGS });
  try {
    const page = await browser.newPage();
    await page.goto(new URL('station.json', url).href);
    const source = await (await fetch(hls)).text();
    await page.evaluate(async (code) => {
      const address = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
      globalThis.Hls = (await import(address)).default;
    }, source);
    await page.evaluate(play, url);
    const started = Date.now();
    await page.waitForFunction(() => globalThis.heard.audio.currentTime > 0.5, null, { timeout: START_MS }).catch(async () => {
      throw new Failure(`nothing plays after ${START_MS / 1000} s: ${JSON.stringify(await look(page))}`);
    });
    say(`playing after ${((Date.now() - started) / 1000).toFixed(1)} s`);
    await listen(page, Number(seconds));
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({
  options: { url: { type: 'string' }, hls: { type: 'string' }, seconds: { type: 'string', default: '60' } },
});

await verdict(async () => {
  check(values.url && values.hls, 'no --url or no --hls');
  await run(values);
});
