// Drives the player page of a running station in headless Chromium and judges what a listener would hear.
//
//   node run.mjs --url http://127.0.0.1:8080/ [--seconds 60] [--restart] [--screenshots DIR]
//
// With --restart (or --restart-cmd-fd) it prints `READY-FOR-RESTART` and waits for the line `RESTARTED` on
// stdin; whoever drives it kills and restarts the station in between. The last line is `PASS` or
// `FAIL: reason`, the exit code 0 or 1. CHROMIUM names the browser, otherwise it is looked for in PATH.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS, Failure, browserPath, check, say, verdict } from './chromium.mjs';

const TICK_MS = 1000;
const START_MS = 20_000;
const SWITCH_MS = 30_000;
const RESTART_MS = 20_000;
/** Seconds: longer than what is in hand, so that all that is heard at the end came after the restart. */
const AFTER_RESTART_S = 25;
const RESTARTED_MS = 120_000;
/** Share by which the page's clock may differ from the wall clock. */
const RATE_TOLERANCE = 0.05;
/** Root mean square below which audio counts as silent (-60 dB full scale). */
const SILENCE = 0.001;
/** Seconds: a pause between two tracks is no silent station. */
const LONGEST_QUIET = 5;

/** What the page is doing now, with the loudest sound since the last look. */
function look(page) {
  return page.evaluate(() => {
    const { audio, errors, state, playing } = globalThis.skywave;
    const seen = globalThis.skywaveTest;
    const loudest = seen.loudest;
    seen.loudest = 0;
    return {
      now: performance.now() / 1000,
      time: audio.currentTime,
      ranges: Array.from({ length: audio.buffered.length }, (_, n) => [audio.buffered.start(n), audio.buffered.end(n)]),
      errors: errors.slice(-5),
      state,
      playing,
      loudest,
    };
  });
}

/** Waits until the page says yes to `condition`, asked ten times a second. */
async function until(page, what, timeout, condition, argument) {
  try {
    await page.waitForFunction(condition, argument, { timeout, polling: 100 });
  } catch (cause) {
    const seen = await page.evaluate(() => {
      const { state, playing, errors, audio } = globalThis.skywave ?? {};
      return JSON.stringify({ state, playing, time: audio?.currentTime, errors: errors?.slice(-5) });
    }).catch(() => 'no answer from the page');
    throw new Failure(`${what}: not within ${timeout / 1000} s (${seen}; ${cause.message.split('\n')[0]})`);
  }
}

/** Resolves when the next sample is due. */
function tick(page) {
  return page.waitForTimeout(TICK_MS);
}

function judge(sample, before) {
  check(sample.ranges.length === 1, `${sample.ranges.length} buffered ranges at ${sample.time.toFixed(1)} s: ${JSON.stringify(sample.ranges)}`);
  check(sample.errors.length === 0, `hls.js errors ${JSON.stringify(sample.errors)}`);
  check(sample.state === 'playing', `the page says "${sample.state}" instead of playing`);
  check(sample.time > before.time, `playback stands still at ${sample.time.toFixed(2)} s`);
}

/** Listens for some seconds: real-time rate, one buffered range, sound, and no error of any kind. */
async function listen(page, seconds, what) {
  const first = await look(page);
  let last = first;
  let quiet = 0;
  let loudest = 0;
  while (last.now - first.now < seconds) {
    await tick(page);
    const sample = await look(page);
    judge(sample, last);
    loudest = Math.max(loudest, sample.loudest);
    quiet = sample.loudest < SILENCE ? quiet + sample.now - last.now : 0;
    check(quiet <= LONGEST_QUIET, `silence for ${quiet.toFixed(1)} s at ${sample.time.toFixed(1)} s`);
    last = sample;
  }
  const rate = (last.time - first.time) / (last.now - first.now);
  check(Math.abs(rate - 1) <= RATE_TOLERANCE, `${what}: audio runs at ${rate.toFixed(3)} times real time`);
  check(loudest >= SILENCE, `${what}: silent, loudest RMS ${loudest}`);
  await noErrors(page, what);
  say(`${what}: ${seconds} s, rate ${rate.toFixed(4)}, loudest RMS ${loudest.toFixed(3)}, one buffered range, no errors`);
}

async function noErrors(page, what) {
  const errors = await page.evaluate(() => globalThis.skywave.errors);
  check(errors.length === 0, `${what}: hls.js errors ${JSON.stringify(errors)}`);
}

async function open(page, url) {
  await page.goto(url);
  await page.waitForSelector('html[data-ready]', { state: 'attached', timeout: START_MS });
  const engine = await page.evaluate(() => globalThis.skywave.player.engine?.constructor.name ?? 'none');
  check(engine === 'HlsEngine', `the page plays through ${engine}: is hls.js in the binary?`);
  await page.evaluate(() => {
    const seen = (globalThis.skywaveTest = { loudest: 0 });
    setInterval(() => {
      seen.loudest = Math.max(seen.loudest, globalThis.skywave.level());
    }, 50);
  });
}

async function pressPlay(page) {
  const started = Date.now();
  await page.click('#play');
  await until(page, 'playback after the click', START_MS, () => {
    const { state, audio } = globalThis.skywave;
    return state === 'playing' && audio.currentTime > 0.5 && !audio.paused;
  });
  say(`playing ${((Date.now() - started) / 1000).toFixed(1)} s after the click`);
}

async function choose(page, name) {
  const label = page.locator('#choices label', { has: page.locator(`input[value="${name}"]`) });
  await label.click();
  await until(page, `rendition ${name}`, SWITCH_MS, (wanted) => globalThis.skywave.playing === wanted, name);
  await listen(page, 6, `on ${name}`);
}

async function switchRenditions(page) {
  const names = await page.$$eval('#choices input', (inputs) => inputs.map((input) => input.value));
  const [lowest, highest] = [names[1], names.at(-1)];
  check(names.length >= 3, `renditions offered: ${names.join(', ')}`);
  await choose(page, names.includes('lofi') ? 'lofi' : lowest);
  await choose(page, names.includes('hifi') ? 'hifi' : highest);
}

/** Space pauses, Enter plays, arrows move the rendition; focus is where the keys say. */
async function useKeyboard(page) {
  await page.focus('#play');
  await page.keyboard.press('Space');
  await until(page, 'pause by the space bar', START_MS, () => globalThis.skywave.audio.paused);
  check((await page.getAttribute('#play', 'aria-label')) === 'Play', 'a paused page offers no Play');
  await page.keyboard.press('Enter');
  await until(page, 'playback by Enter', START_MS, () => {
    const { state, audio } = globalThis.skywave;
    return state === 'playing' && !audio.paused;
  });
  check((await page.getAttribute('#play', 'aria-label')) === 'Pause', 'a playing page offers no Pause');
  await page.focus('#choices input:checked');
  await page.keyboard.press('ArrowLeft');
  const chosen = await page.$eval('#choices input:checked', (input) => [input.value, input === document.activeElement]);
  check(chosen[1], 'an arrow key lost the focus');
  await page.keyboard.press('ArrowRight');
  await listen(page, 5, `after the keyboard (arrow chose ${chosen[0]})`);
}

async function showsNowPlaying(page) {
  const title = (await page.textContent('#title')).trim();
  check(title.length > 0, 'no title is shown while playing');
  say(`now playing: ${title}`);
}

/** The next line on stdin that says so. */
function restarted() {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: process.stdin });
    const timer = setTimeout(() => reject(new Failure('nobody said RESTARTED')), RESTARTED_MS);
    const end = (settle, value) => {
      settle(value);
      clearTimeout(timer);
      lines.close();
    };
    lines.on('line', (line) => line.trim() === 'RESTARTED' && end(resolve));
    lines.on('close', () => end(reject, new Failure('stdin closed before RESTARTED')));
  });
}

/** While the station is down the network says so; the lead bridges it, so nothing else may be heard of it. */
function judgeRestartErrors(errors) {
  const other = errors.filter((error) => error.fatal || error.type !== 'networkError');
  check(other.length === 0, `errors over the restart that are not the network's: ${JSON.stringify(other)}`);
}

/** Asks the station again and again until told to stop; true once it refused: without that, nothing was restarted. */
async function sawItGone(url, stop) {
  let gone = false;
  while (!stop.aborted && !gone) {
    try {
      await fetch(url, { method: 'HEAD', signal: AbortSignal.any([stop, AbortSignal.timeout(5000)]) });
      await pause(20);
    } catch {
      gone = !stop.aborted;
    }
  }
  return gone;
}

async function surviveRestart(page, url) {
  await noErrors(page, 'before the restart');
  const stop = new AbortController();
  const gone = sawItGone(url, stop.signal);
  say('READY-FOR-RESTART');
  await restarted().finally(() => stop.abort());
  check(await gone, 'the station answered all the time: it was not restarted');
  const newest = () => page.evaluate(() => globalThis.skywave.hls.latestLevelDetails?.endSN ?? 0);
  const before = await newest();
  await until(page, 'a segment of the restarted station', RESTART_MS, (old) => {
    return (globalThis.skywave.hls.latestLevelDetails?.endSN ?? 0) > old;
  }, before);
  await page.evaluate(() => { globalThis.skywaveTest.from = null; });
  await until(page, 'playback after the restart', RESTART_MS, () => {
    const { audio, state } = globalThis.skywave;
    const seen = globalThis.skywaveTest;
    if (state !== 'playing') seen.from = null;
    else seen.from ??= audio.currentTime;
    return seen.from !== null && audio.currentTime - seen.from > 3;
  });
  const errors = await page.evaluate(() => globalThis.skywave.errors.splice(0));
  judgeRestartErrors(errors);
  const kinds = [...new Set(errors.map((error) => error.details))].join(', ') || 'none';
  say(`playback went on after the restart; errors meanwhile: ${kinds}`);
  await listen(page, AFTER_RESTART_S, 'after the restart');
}

async function photograph(browser, url, folder) {
  mkdirSync(folder, { recursive: true });
  const shots = [['light', 1280, 900, 'light'], ['dark', 1280, 900, 'dark'], ['narrow', 360, 740, 'light']];
  for (const [name, width, height, colorScheme] of shots) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme });
    await open(page, url);
    await pressPlay(page);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    check(overflow <= 0, `the page is ${overflow} px too wide at ${width} px`);
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    await page.close();
  }
}

async function run(options) {
  const browser = await chromium.launch({ executablePath: browserPath(), args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: { width: 360, height: 740 } });
    const broken = [];
    page.on('pageerror', (error) => broken.push(error.message));
    page.on('console', (message) => /Content Security Policy/.test(message.text()) && broken.push(message.text()));
    await open(page, options.url);
    await pressPlay(page);
    await listen(page, Number(options.seconds), 'listening');
    await showsNowPlaying(page);
    await switchRenditions(page);
    await useKeyboard(page);
    if (options.screenshots) await photograph(browser, options.url, options.screenshots);
    if (options.restart || options['restart-cmd-fd']) await surviveRestart(page, options.url);
    check(broken.length === 0, `the page's scripts failed: ${broken.join('; ')}`);
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    restart: { type: 'boolean', default: false },
    'restart-cmd-fd': { type: 'boolean', default: false },
    screenshots: { type: 'string' },
  },
});

await verdict(async () => {
  check(values.url, 'no --url');
  await run(values);
});
process.stdin.unref?.();
