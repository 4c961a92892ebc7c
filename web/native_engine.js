// Plays the stream through the browser's own HLS: Safari, and Chromium when hls.js is not in the binary.

import { nowPlayingFromId3 } from './id3.js';
import { renditionName } from './hls_engine.js';

const PATIENCE_MS = 6000;

/** The variants of a multivariant playlist (RFC 8216, section 4.3.4.2), with absolute URIs. */
export function variants(playlist, base) {
  const lines = playlist.split(/\r?\n/);
  const found = [];
  lines.forEach((line, at) => {
    if (!line.startsWith('#EXT-X-STREAM-INF:')) return;
    const uri = lines.slice(at + 1).find((next) => next && !next.startsWith('#'));
    if (!uri) return;
    const url = new URL(uri, base).href;
    found.push({
      name: renditionName(url, found.length),
      bandwidth: Number(/[:,]BANDWIDTH=(\d+)/.exec(line)?.[1] ?? 0),
      codecs: /CODECS="([^"]*)"/.exec(line)?.[1] ?? '',
      url,
    });
  });
  return found;
}

export class NativeEngine {
  /** The browser fetches by itself: nobody can look at what it plays. */
  checks = false;

  constructor(audio, url, on) {
    Object.assign(this, { audio, url, on, wish: 'auto', renditions: [], playing: null, running: false });
    audio.addEventListener('error', () => this.running && on.broken(0));
    audio.addEventListener('progress', () => this.running && on.arrived());
    audio.addEventListener('playing', () => on.well());
    audio.textTracks.addEventListener('addtrack', ({ track }) => this.listen(track));
  }

  async start() {
    this.running = true;
    try {
      const answer = await fetch(this.url, { cache: 'no-cache', signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) return this.on.broken(answer.status);
      this.renditions = variants(await answer.text(), new URL(this.url, location.href));
    } catch {
      return this.on.broken(0);
    }
    if (!this.running) return;
    this.on.renditions(this.renditions);
    this.load();
  }

  /** A live stream is joined anew: the browser's own player may have lost its place. */
  resume() {
    return this.start();
  }

  pause() {
    this.stop();
  }

  stop() {
    this.running = false;
    this.audio.removeAttribute('src');
    this.audio.load();
    this.setPlaying(null);
  }

  choose(name) {
    this.wish = name;
    if (this.running) this.load();
  }

  /** Which rendition plays is known only when it is the one asked for: the browser does not tell. */
  load() {
    const wished = this.renditions.find((rendition) => rendition.name === this.wish);
    this.audio.src = wished?.url ?? this.url;
    this.setPlaying(wished?.name ?? null);
    this.audio.play().catch((cause) => this.on.refused(cause));
  }

  setPlaying(name) {
    this.playing = name;
    this.on.playing(name);
  }

  listen(track) {
    if (track.kind !== 'metadata') return;
    track.mode = 'hidden';
    track.addEventListener('cuechange', () => {
      const found = { title: '', artist: '', album: '' };
      for (const { value } of track.activeCues ?? []) {
        if (value?.data instanceof ArrayBuffer) Object.assign(found, nowPlayingFromId3(new Uint8Array(value.data)));
        if (value?.key === 'TIT2') found.title = value.data;
        if (value?.key === 'TPE1') found.artist = value.data;
        if (value?.key === 'TALB') found.album = value.data;
      }
      if (found.title || found.artist || found.album) this.on.nowPlaying(found);
    });
  }

  figures() {
    const { buffered, currentTime } = this.audio;
    const end = buffered.length ? buffered.end(buffered.length - 1) : currentTime;
    return { behind: 0, ahead: Math.max(0, end - currentTime), by: 'the browser’s own player' };
  }
}
