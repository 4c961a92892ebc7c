// What the station says of itself: /station.json, asked again and again.

const EVERY_MS = 10_000;
const EVERY_MS_WHEN_LOST = 5_000;
const PATIENCE_MS = 6_000;

/** Calls `onNews({info, reachable})` after each answer or silence; `info` is the last one that came. */
export class Station {
  constructor(onNews) {
    this.onNews = onNews;
    this.info = {};
    this.reachable = null;
  }

  start() {
    document.addEventListener('visibilitychange', () => document.hidden || this.ask());
    return this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    try {
      const answer = await fetch('/station.json', { cache: 'no-cache', signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`station.json: ${answer.status}`);
      this.info = await answer.json();
      this.reachable = true;
    } catch {
      this.reachable = false;
    }
    this.timer = setTimeout(() => this.ask(), this.reachable ? EVERY_MS : EVERY_MS_WHEN_LOST);
    this.onNews({ info: this.info, reachable: this.reachable });
  }
}
