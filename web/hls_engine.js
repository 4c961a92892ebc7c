// Plays the stream through hls.js: every browser with Media Source Extensions.

import { loaderOf } from './feed_loader.js';
import { nowPlayingFromId3 } from './id3.js';

/** The folder of a media playlist is the rendition's name: hifi/live.m3u8. */
export function renditionName(uri, index) {
  const folders = new URL(uri, location.href).pathname.split('/').slice(0, -1);
  return folders.at(-1) || `rendition ${index + 1}`;
}

/** A station that restarts refuses connections (0) or knows no stream yet (404, 503): all worth asking again. */
function retryPlaylist(config, count) {
  return count < config.maxNumRetry;
}

/** A segment that is gone for good (4xx) is given up soon, so that playback goes on behind it. */
function retrySegment(config, count, isTimeout, response) {
  const gone = response?.code >= 400 && response.code < 500;
  return count < (gone ? 1 : config.maxNumRetry);
}

function loading(patienceMs, retries, shouldRetry) {
  const retry = { maxNumRetry: retries, retryDelayMs: 500, maxRetryDelayMs: 4000, backoff: 'exponential', shouldRetry };
  return {
    default: {
      maxTimeToFirstByteMs: patienceMs,
      maxLoadTimeMs: patienceMs * 2,
      timeoutRetry: { ...retry, retryDelayMs: 0 },
      errorRetry: retry,
    },
  };
}

/** Playlists and segments are asked for again until what is buffered (about 12 s) has run out. */
const CONFIG = {
  enableWorker: false,
  lowLatencyMode: false,
  liveSyncDurationCount: 3,
  liveMaxLatencyDurationCount: 8,
  backBufferLength: 30,
  maxBufferLength: 40,
  maxMaxBufferLength: 60,
  enableID3MetadataCues: false,
  enableEmsgMetadataCues: false,
  testBandwidth: false,
  abrEwmaDefaultEstimate: 1_000_000,
  manifestLoadPolicy: loading(6000, 0, retryPlaylist),
  playlistLoadPolicy: loading(6000, 8, retryPlaylist),
  fragLoadPolicy: loading(8000, 8, retrySegment),
};

export class HlsEngine {
  /** What plays has been checked on the way, by the feed. */
  checks = true;

  /** `on`: renditions, playing, nowPlaying, arrived, well, reattached, broken, error. */
  constructor(Hls, audio, url, feed, on) {
    Object.assign(this, { Hls, audio, url, feed, on, wish: 'auto', tags: [], renditions: [], playing: null });
    audio.addEventListener('timeupdate', () => this.showTag());
  }

  start() {
    if (!this.hls) this.create();
    this.recoveries = 0;
    this.tags = [];
    this.hls.loadSource(this.url);
    if (!this.hls.media) this.hls.attachMedia(this.audio);
  }

  /** Goes on where a pause stopped; hls.js itself jumps to the live edge when that is too far behind. */
  resume() {
    if (!this.hls?.levels.length) return this.start();
    this.hls.startLoad(-1);
  }

  pause() {
    this.hls?.stopLoad();
  }

  stop() {
    this.hls?.stopLoad();
    this.hls?.detachMedia();
    this.setPlaying(null);
  }

  create() {
    const { Events } = this.Hls;
    const hls = (this.hls = new this.Hls({ ...CONFIG, loader: loaderOf(this.feed) }));
    hls.on(Events.MANIFEST_PARSED, () => this.manifestParsed());
    hls.on(Events.FRAG_CHANGED, (_, { frag }) => this.setPlaying(this.renditions[frag.level]?.name ?? null));
    hls.on(Events.FRAG_PARSING_METADATA, (_, { samples }) => this.keepTags(samples));
    hls.on(Events.FRAG_BUFFERED, () => this.on.arrived());
    hls.on(Events.LEVEL_UPDATED, () => this.on.well());
    hls.on(Events.ERROR, (_, data) => this.error(data));
  }

  manifestParsed() {
    this.renditions = this.hls.levels.map((level, index) => ({
      name: level.name || renditionName(level.uri, index),
      bandwidth: level.bitrate,
      codecs: level.audioCodec,
    }));
    this.on.renditions(this.renditions);
    this.choose(this.wish);
  }

  /**
   * A choice takes effect behind what is in hand, seconds later. Sooner (`nextLevel`) would throw that away and leave
   * what may be a blink of the segment that plays, while playlist, init and segment are still to come: a stall.
   */
  choose(name) {
    this.wish = name;
    if (!this.hls?.levels.length) return;
    this.hls.loadLevel = this.renditions.findIndex((rendition) => rendition.name === name);
  }

  setPlaying(name) {
    if (name === this.playing) return;
    this.playing = name;
    this.on.playing(name);
  }

  /** Tags come with their segment, seconds before they are heard: each waits for its time. */
  keepTags(samples) {
    for (const { pts, data } of samples) {
      const nowPlaying = nowPlayingFromId3(data);
      if (nowPlaying) this.tags.push({ pts, nowPlaying });
    }
    this.tags.sort((a, b) => a.pts - b.pts);
  }

  showTag() {
    const due = this.tags.filter(({ pts }) => pts <= this.audio.currentTime + 0.1).length;
    if (due === 0) return;
    this.on.nowPlaying(this.tags[due - 1].nowPlaying);
    this.tags.splice(0, due - 1);
  }

  error(data) {
    const { ErrorTypes } = this.Hls;
    const { code = null, text = '' } = data.response ?? {};
    this.on.error({ type: data.type, details: data.details, fatal: data.fatal, code, text });
    if (!data.fatal) return;
    if (data.type !== ErrorTypes.MEDIA_ERROR || this.recoveries++ >= 3) return this.on.broken(data.response?.code ?? 0);
    this.hls.recoverMediaError();
    this.on.reattached();
  }

  /** Seconds behind the newest segment, and seconds of audio in hand. */
  figures() {
    const { buffered, currentTime } = this.audio;
    const end = buffered.length ? buffered.end(buffered.length - 1) : currentTime;
    return { behind: this.hls?.latency ?? 0, ahead: Math.max(0, end - currentTime), by: `hls.js ${this.Hls.version}` };
  }
}
