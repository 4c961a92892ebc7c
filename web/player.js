// What the listener wants, and what is done about it when the station goes away.

import { HlsEngine } from './hls_engine.js';
import { NativeEngine } from './native_engine.js';

const CHOICE_MS = 300;
const LONGEST_WAIT_S = 8;
/** Longer than a segment's way to the listener, shorter than anyone's patience. */
const STUCK_AFTER_MS = 20_000;

async function hlsJs() {
  try {
    const { default: Hls } = await import('./hls.js');
    return Hls.isSupported() ? Hls : null;
  } catch {
    return null;
  }
}

/**
 * States: idle, connecting, playing, bridging (trouble, but audio in hand), waiting (audio ran out),
 * retrying (`wait` seconds left, `reason`), refused (the browser wants a click), unsupported.
 *
 * `on`: state, renditions, playing, nowPlaying, arrived.
 */
export class Player {
  constructor(audio, url, feed, on) {
    Object.assign(this, { audio, url, feed, on, state: 'idle', wait: 0, reason: '', wanted: false, failures: 0 });
    this.errors = [];
    audio.addEventListener('playing', () => this.heard());
    audio.addEventListener('waiting', () => this.wanted && this.isAudible() && this.set('waiting'));
    audio.addEventListener('pause', () => this.isAudible() && this.pausedFromOutside());
    addEventListener('online', () => this.state === 'retrying' && this.connect());
  }

  async prepare() {
    const Hls = await hlsJs();
    const on = {
      ...this.on,
      renditions: (list) => this.ready(list),
      well: () => this.state === 'bridging' && this.set('playing'),
      broken: (code) => this.broken(code),
      reattached: () => this.reattached(),
      error: (error) => this.troubled(error),
      refused: (cause) => this.refused(cause),
    };
    if (Hls) this.engine = new HlsEngine(Hls, this.audio, this.url, this.feed, on);
    else if (this.audio.canPlayType('application/vnd.apple.mpegurl')) {
      this.engine = new NativeEngine(this.audio, this.url, on);
    } else this.set('unsupported');
  }

  isAudible() {
    return this.state === 'playing' || this.state === 'bridging';
  }

  toggle() {
    if (this.wanted) this.pause();
    else this.play();
  }

  play() {
    if (!this.engine || this.wanted) return;
    this.wanted = true;
    this.failures = 0;
    this.progress = { at: performance.now(), time: this.audio.currentTime };
    this.watch = setInterval(() => this.watchdog(), 1000);
    this.set('connecting');
    if (this.paused) this.engine.resume();
    else this.engine.start();
    if (this.audio.src) this.sound();
    this.paused = false;
  }

  pause() {
    this.wanted = false;
    this.paused = this.isAudible() || this.state === 'waiting';
    this.set('idle');
    clearInterval(this.watch);
    clearTimeout(this.timer);
    this.audio.pause();
    if (this.paused) this.engine.pause();
    else this.engine.stop();
  }

  /** A headset's button, a telephone call: what stopped the audio meant it. */
  pausedFromOutside() {
    if (this.wanted && this.audio.paused && this.audio.readyState > 0) this.pause();
  }

  /** Arrow keys run over the choices: only the one they rest on is switched to. */
  choose(name) {
    clearTimeout(this.choice);
    this.choice = setTimeout(() => name !== this.engine?.wish && this.engine?.choose(name), CHOICE_MS);
  }

  connect() {
    clearTimeout(this.timer);
    this.set('connecting');
    this.progress.at = performance.now();
    this.engine.start();
  }

  ready(renditions) {
    this.on.renditions(renditions);
    if (this.wanted) this.sound();
  }

  /** A fresh media source leaves the audio element paused. */
  reattached() {
    if (!this.wanted) return;
    this.set('connecting');
    this.sound();
  }

  sound() {
    this.audio.play().catch((cause) => this.refused(cause));
  }

  refused(cause) {
    if (cause.name !== 'NotAllowedError' || !this.wanted) return;
    this.pause();
    this.set('refused');
  }

  /** Nothing here may be played, for a reason in words. */
  refuse(reason) {
    this.engine = null;
    this.reason = reason;
    this.set('unsupported');
  }

  heard() {
    if (!this.wanted) return;
    this.failures = 0;
    this.set('playing');
  }

  troubled(error) {
    this.errors.push({ ...error, at: Math.round(performance.now()) });
    // hls.js reports a load that it cancelled itself, for a switch, as the network's.
    const network = error.type === 'networkError' && error.details !== 'aborted';
    if (network && this.state === 'playing') this.set('bridging');
  }

  broken(code) {
    if (!this.wanted || this.state === 'retrying') return;
    this.engine.stop();
    this.reason = this.feed.trouble() ?? (code >= 400 ? 'it has no stream at the moment' : 'it does not answer');
    this.wait = Math.min(LONGEST_WAIT_S, 2 ** this.failures++);
    this.countDown();
  }

  countDown() {
    if (this.wait <= 0) return this.connect();
    this.set('retrying');
    this.timer = setTimeout(() => {
      this.wait -= 1;
      this.countDown();
    }, 1000);
  }

  /** Errors that no event tells of: playlists that stand still, a decoder that hangs. */
  watchdog() {
    const { currentTime } = this.audio;
    const now = performance.now();
    if (currentTime !== this.progress.time || this.state === 'retrying') {
      this.progress = { at: now, time: currentTime };
    } else if (now - this.progress.at > STUCK_AFTER_MS) this.broken(0);
  }

  set(state) {
    this.state = state;
    this.on.state(state);
  }
}
