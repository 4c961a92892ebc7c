// Headless Chromium for the tests: where it is, how it is started, and how a test tells what it found.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
];

export class Failure extends Error {}

export function check(condition, reason) {
  if (!condition) throw new Failure(reason);
}

export function say(words) {
  process.stdout.write(`${words}\n`);
}

export function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of names) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Looked for in the next place.
      }
    }
  }
  throw new Failure('no Chromium in PATH, and CHROMIUM is not set');
}

/** Runs a test and tells how it went: the last line is `PASS` or `FAIL: reason`, the exit code 0 or 1. */
export async function verdict(test) {
  try {
    await test();
    say('PASS');
  } catch (error) {
    say(`FAIL: ${error instanceof Failure ? error.message : error.stack}`);
    process.exitCode = 1;
  }
}
