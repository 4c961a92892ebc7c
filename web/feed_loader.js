// What hls.js loads comes through here: from a Feed instead of from one address (hls.js API, "loader").

import { TransferError } from './transfer.js';

/** A server that has been silent for so long when hls.js gives a load up is why it did. */
const SILENT_MS = 1_500;

/** What a path below /live stands for: `[kind, rendition, n]`, or null. */
export function meaning(url) {
  const parts = new URL(url, 'http://page').pathname.split('/').slice(1);
  if (parts.shift() !== 'live') return null;
  if (parts.length === 1 && parts[0] === 'stream.m3u8') return ['multivariant'];
  if (parts.length !== 2) return null;
  const rendition = decodeURIComponent(parts[0]);
  if (parts[1] === 'live.m3u8') return ['playlist', rendition];
  if (parts[1] === 'init.mp4') return ['init', rendition];
  const n = /^(\d{1,15})\.m4s$/.exec(parts[1]);
  return n && ['segment', rendition, Number(n[1])];
}

function freshStats() {
  const span = () => ({ start: 0, first: 0, end: 0 });
  return { aborted: false, loaded: 0, retry: 0, total: 0, chunkCount: 0, bwEstimate: 0, loading: span(), parsing: { start: 0, end: 0 }, buffering: span() };
}

/** The class that hls.js makes one of for every load. */
export function loaderOf(feed) {
  return class FeedLoader {
    constructor() {
      Object.assign(this, { stats: freshStats(), context: null, callbacks: null, abortion: new AbortController() });
    }

    load(context, config, callbacks) {
      Object.assign(this, { context, callbacks });
      this.stats.loading.start = performance.now();
      const patience = config.loadPolicy?.maxLoadTimeMs ?? config.timeout;
      this.timer = setTimeout(() => this.late(), patience);
      this.fetch(context).then((data) => this.done(data), (error) => this.failed(error));
    }

    async fetch({ url }) {
      const asked = meaning(url);
      if (!asked) throw new TransferError('no address of the stream', 404);
      const [kind, ...rest] = asked;
      return feed[kind](...rest, { signal: this.abortion.signal, on: this.listener() });
    }

    /** The speed of the server that answered is what hls.js is to know, not that of one which did not. */
    listener() {
      const { loading } = this.stats;
      return {
        attempt: (source) => {
          Object.assign(this, { source, heardAt: performance.now() });
          Object.assign(loading, { start: performance.now(), first: 0 });
          this.stats.loaded = 0;
        },
        first: () => { loading.first = this.heardAt = performance.now(); },
        progress: (bytes) => {
          this.heardAt = performance.now();
          this.stats.loaded = bytes;
        },
      };
    }

    done(data) {
      const { stats, context, callbacks } = this;
      if (!callbacks) return;
      this.end();
      stats.loading.end = performance.now();
      stats.loading.first ||= stats.loading.end;
      stats.loaded = stats.total = data.byteLength ?? data.length;
      const answer = data instanceof Uint8Array ? data.buffer : data;
      callbacks.onSuccess({ url: context.url, data: answer, code: 200 }, stats, context, null);
    }

    failed(error) {
      const { stats, context, callbacks } = this;
      if (!callbacks) return;
      this.end();
      callbacks.onError({ code: error instanceof TransferError ? error.code : 0, text: error.message }, context, null, stats);
    }

    late() {
      const { stats, context, callbacks } = this;
      this.cancel();
      callbacks?.onTimeout(stats, context, null);
    }

    abort() {
      const { stats, context, callbacks } = this;
      this.cancel();
      callbacks?.onAbort?.(stats, context, null);
    }

    destroy() {
      this.cancel();
    }

    end() {
      clearTimeout(this.timer);
      this.callbacks = null;
    }

    cancel() {
      if (!this.callbacks) return;
      this.end();
      this.stats.aborted = true;
      if (this.source && performance.now() - this.heardAt > SILENT_MS) feed.fails(this.source);
      this.abortion.abort();
    }

    getCacheAge() {
      return null;
    }

    getResponseHeader() {
      return null;
    }
  };
}
