// What the station says of itself: /station.json, asked again and again.

const EVERY_MS = 10_000;
const EVERY_MS_WHEN_LOST = 5_000;
const PATIENCE_MS = 6_000;

/**
 * Calls `onNews({info, reachable})` after each answer or silence; `info` is the last one that came. While this page's own
 * server is silent, `elsewhere()` resolves to what the station says through others, or null.
 */
export class Station {
  constructor(elsewhere, onNews) {
    Object.assign(this, { elsewhere, onNews });
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
      const signed = await this.elsewhere().catch(() => null);
      this.reachable = signed !== null;
      // Role and addresses are those of the page's own server.
      const { role, addresses } = this.info;
      if (signed) this.info = { ...signed, role, addresses };
    }
    this.timer = setTimeout(() => this.ask(), this.reachable ? EVERY_MS : EVERY_MS_WHEN_LOST);
    this.onNews({ info: this.info, reachable: this.reachable });
  }
}
