// The station's files from whoever has them, each checked against the station's signature before anybody sees it.
//
// Asks one server after the other for the same path. What does not match what the station signed is thrown away, and who
// sent it is not asked again.

import { Chain } from './chain.js';
import { CidError, keyOfName, sameBytes } from './cid.js';
import { DirectoryError } from './dag_pb.js';
import { MAX_RECORD_BYTES, RecordError } from './ipns_record.js';
import { IndexError, mediaPlaylist, newestOf } from './segment_index.js';
import { TooLong, TransferError } from './transfer.js';

/** Silence of a server, in milliseconds, when there is another one to ask, and when there is none. */
const PATIENCE_MS = 2_500;
const PATIENCE_ALONE_MS = 8_000;
const MAX_PLAYLIST_BYTES = 256 * 1024;
const MAX_INIT_BYTES = 1024 * 1024;
const MAX_SEGMENT_BYTES = 16 * 1024 * 1024;
/** How long a number that no index names yet is waited for: its record is signed after its playlist. */
const LOOKS = 4;
const LOOK_AGAIN_MS = 400;
/** The chain is brought up to date before the known segments end, and asked for again where there was none. */
const AHEAD = 3;
const ASK_AGAIN_MS = 10_000;
/** Playlists that have not moved for this many segments come from a server that stands still. */
const STANDS_STILL = 3.5;
/** The page plays at the live edge: of a playlist of hours it needs no more. */
const MAX_LISTED = 32;
/** A server may be this many segments behind another without taking the listener back. */
const BEHIND = 3;
/** Servers that are asked for a newer record at a time. */
const ASKED = 4;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export class Feed {
  /**
   * `strict` where the listener named the station, so that nothing unproven is played. `hashing` gives sha256(bytes) and
   * verifyEd25519(signature, message, key). `on.changed()` after each change of what the page tells.
   */
  constructor({ sources, strict = false, get, hashing, now = () => performance.now(), on }) {
    Object.assign(this, { sources, strict, fetch: get, hashing, now, on, chain: null, unprovenOwn: null });
    /** Why what plays is not checked, in words; null when it is, undefined before it is known. */
    this.unproven = undefined;
    this.askedAt = -Infinity;
    this.position = { n: -1, at: 0 };
    this.named = new Promise((resolve) => { this.settle = resolve; });
  }

  /** Says whose records count: an IPNS name, or null where nobody knows one. */
  name(name) {
    if (name && name !== this.chain?.name) {
      try {
        keyOfName(name);
        this.chain = new Chain(name, this.hashing.verifyEd25519);
      } catch (error) {
        if (!(error instanceof CidError)) throw error;
        this.chain = null;
        this.why = `the page cannot check names like ${name}: ${error.message}`;
      }
      this.askedAt = -Infinity;
    }
    this.settle();
  }

  changed() {
    this.on.changed();
  }

  /** Whether what plays is checked: null, or why not. */
  tell(unproven) {
    if (unproven === this.unproven) return;
    this.unproven = unproven;
    this.changed();
  }

  /** Why nothing can be played, in words, where that is no matter of the network; otherwise null. */
  trouble() {
    if (!this.sources.usable().length) return 'no server is left that gives what the station signed';
    return this.strict ? this.unproven ?? null : null;
  }

  lies(source, what) {
    this.sources.lies(source, what);
    this.changed();
  }

  /**
   * `{bytes, firstMs, totalMs, source}` of a path from the first server that gives it right.
   *
   * `check(bytes)` resolves to what is wrong with it in words, or null; it may throw a TransferError for what is useless
   * but no lie. `tooLong` says what a body above `limit` is, where that is a lie.
   */
  async get(path, { limit, check, tooLong, signal, on, cache, among = this.sources.order() }) {
    let last = null;
    const misses = [];
    for (const source of among) {
      if (source.lied) continue;
      const patience = among.length > 1 ? PATIENCE_MS : PATIENCE_ALONE_MS;
      on?.attempt?.(source);
      try {
        const answer = await this.fetch(source.base + path, { limit, patience, signal, cache, on });
        const fault = (await check?.(answer.bytes)) ?? null;
        if (fault === null) return this.took(source, answer, misses);
        this.lies(source, fault);
        last = new TransferError(fault);
      } catch (error) {
        if (signal?.aborted || !(error instanceof TransferError)) throw error;
        last = error;
        if (error instanceof TooLong && tooLong) this.lies(source, tooLong);
        // What nobody has is nobody's failure.
        else if (error.code >= 400 && error.code < 500) misses.push(source);
        else this.fails(source);
      }
    }
    throw last ?? new TransferError('no server is left to ask');
  }

  took(source, answer, misses) {
    misses.forEach((other) => this.fails(other));
    this.sources.answered(source, answer.firstMs);
    return { ...answer, source };
  }

  fails(source) {
    const before = this.sources.current;
    this.sources.failed(source);
    if (before !== this.sources.current) this.changed();
  }

  /** A block by its CID, from anybody. */
  block = async (cid, limit) => {
    const check = (bytes) => this.isOf(cid, bytes, 'a block that is not the one of its CID');
    const { bytes } = await this.get(`/ipfs/${cid.text}?format=raw`, { limit, check });
    return bytes;
  };

  async isOf(cid, bytes, fault) {
    return sameBytes(await this.hashing.sha256(bytes), cid.digest) ? null : fault;
  }

  recordOf(source) {
    const url = `${source.base}/ipns/${this.chain.name}?format=ipns-record`;
    return this.fetch(url, { limit: MAX_RECORD_BYTES, patience: PATIENCE_MS, cache: 'no-cache' });
  }

  /** A server's record, or null where it has no good one; says so, and drops the server where that is a lie. */
  async verifiedRecord(source) {
    try {
      const { bytes } = await this.recordOf(source);
      return await this.chain.record(bytes);
    } catch (error) {
      if (error instanceof RecordError) this.blame(source, error);
      else if (!(error instanceof TransferError)) throw error;
      else if (error instanceof TooLong) this.lies(source, 'a record that is none');
      else if (source.own && error.code >= 400) this.unprovenOwn = 'this server gives no signed record of the station';
      else this.fails(source);
      return null;
    }
  }

  blame(source, error) {
    const isClock = error.kind === 'expired' || error.kind === 'unreadable';
    if (isClock && source.own) this.unprovenOwn = `this server’s record of the station is no use: ${error.message}`;
    else this.lies(source, `a record of the station that is not good: ${error.message}`);
  }

  /** Takes a newer record's tree for the newest; resolves to whether it did. */
  async adopt(source, record) {
    try {
      if (await this.chain.adopt(record, this.block)) return true;
      if (source.own) this.unprovenOwn = 'this server’s stream has no index of its segments';
      else this.fails(source);
    } catch (error) {
      if (!(error instanceof TransferError) && !(error instanceof DirectoryError)) throw error;
      // Its tree has moved on meanwhile, or cannot be read.
    }
    return false;
  }

  /** Asks for newer records until `isEnough()`; one at a time, whoever waits for it. */
  refresh(isEnough = () => true) {
    this.refreshing ??= this.ask(isEnough).finally(() => { this.refreshing = null; });
    return this.refreshing;
  }

  async ask(isEnough) {
    this.askedAt = this.now();
    this.unprovenOwn = null;
    for (const source of this.sources.order().slice(0, ASKED)) {
      for (let tries = 0; tries < 2; tries += 1) {
        const record = await this.verifiedRecord(source);
        const age = record && this.chain.compare(record);
        if (age === 'old') this.lies(source, 'an old record of the station');
        if (age !== 'newer' || (await this.adopt(source, record))) break;
      }
      if (this.chain.head && isEnough()) break;
    }
    if (!this.chain.head) this.tell(this.unprovenOwn ?? 'nobody answers with a signed record of the station');
    else if (!this.unprovenOwn) this.tell(null);
  }

  /** Whether segments can be checked; asks first where that is not known, and again from time to time. */
  async isProven() {
    await this.named;
    if (!this.chain) this.tell(this.why ?? 'this server does not say which station it is');
    if (!this.chain) return false;
    const due = this.now() - this.askedAt > ASK_AGAIN_MS;
    if (this.chain.head === null && (due || this.refreshing)) await this.refresh();
    return this.chain.head !== null;
  }

  /** What the station signed about segment n; null where its own server says that it signs nothing. */
  async proof(n) {
    if (!(await this.isProven())) return this.withoutProof();
    for (let look = 0; look < LOOKS; look += 1) {
      const found = await this.readable(() => this.chain.segment(n, this.block));
      if (found) this.tell(null);
      if (found) return found;
      if (look > 0 && this.unprovenOwn) return this.withoutProof();
      if (look > 1) await pause(LOOK_AGAIN_MS);
      await this.refresh(() => this.chain.knows(n));
    }
    throw new TransferError(`the station has not announced segment ${n}`);
  }

  /** Null where a group of the index is gone or cannot be read: a newer one takes its place. */
  async readable(read) {
    try {
      return await read();
    } catch (error) {
      if (error instanceof TransferError || error instanceof IndexError) return null;
      throw error;
    }
  }

  /** Unproven is only what this page's own server gives, and only where nobody asked for a certain station. */
  withoutProof() {
    if (this.strict) throw new TransferError('no server here can prove that it is that station');
    if (this.unprovenOwn) this.tell(this.unprovenOwn);
    return null;
  }

  ownAlone(path, options) {
    this.withoutProof();
    return this.get(path, { ...options, among: [this.sources.own] });
  }

  /** stream.m3u8 as text. */
  async multivariant({ signal, on }) {
    if (await this.isProven()) {
      const read = () => this.readable(() => this.chain.file('stream.m3u8', this.block));
      const bytes = (await read()) ?? (await this.refresh(), await read());
      if (bytes) return new TextDecoder().decode(bytes);
      if (!this.unprovenOwn) throw new TransferError('nobody has the station’s playlist');
    }
    const { bytes } = await this.ownAlone('/live/stream.m3u8', { limit: MAX_PLAYLIST_BYTES, signal, on });
    return new TextDecoder().decode(bytes);
  }

  /** A media playlist as text: made of the signed index. The server tells no more than how far it goes. */
  async playlist(rendition, { signal, on }) {
    const path = `/live/${encodeURIComponent(rendition)}/live.m3u8`;
    const options = { limit: MAX_PLAYLIST_BYTES, signal, on };
    if (!(await this.isProven())) return this.text(await this.ownAlone(path, options));
    const answer = await this.moving(path, options);
    const newest = this.steady(newestOf(this.text(answer)));
    const proof = await this.proof(newest).catch((error) => {
      this.fails(answer.source);
      throw error;
    });
    if (!proof) return this.text(await this.ownAlone(path, options));
    if (newest !== this.position.n) Object.assign(this.position, { n: newest, at: this.now() });
    const segments = await this.listed(newest, proof);
    if (!this.chain.knows(newest + AHEAD)) this.refresh().catch(() => {});
    if (!segments[0].media.has(rendition)) throw new TransferError(`the station has no rendition ${rendition}`, 404);
    return mediaPlaylist(proof.group.targetDuration, segments);
  }

  text({ bytes }) {
    return new TextDecoder().decode(bytes);
  }

  /** The playlist of the first server, unless it stands still, or hurries, and another one does not. */
  async moving(path, options) {
    const check = (bytes) => {
      if (newestOf(this.text({ bytes })) === null) throw new TransferError('a playlist without segments');
      return null;
    };
    const first = await this.get(path, { ...options, check });
    const [n, { n: before, at }] = [newestOf(this.text(first)), this.position];
    const passed = (this.now() - at) / this.segmentMs();
    const isStill = n <= before && passed > STANDS_STILL;
    const hurries = before >= 0 && n > before + passed + BEHIND;
    const others = this.sources.order().filter((source) => source !== first.source && !this.sources.isResting(source));
    if (!(isStill || hurries) || !others.length) return first;
    const second = await this.get(path, { ...options, check, among: others }).catch(() => null);
    const other = second && newestOf(this.text(second));
    if (!second || (isStill ? other <= before : other >= n - BEHIND)) return first;
    this.fails(first.source);
    return second;
  }

  segmentMs() {
    return this.position.samples ? this.position.samples / 48 : 4_000;
  }

  /** The number to list up to: never back by the little that one server is behind another. */
  steady(newest) {
    return newest < this.position.n && this.position.n - newest <= BEHIND ? this.position.n : newest;
  }

  /** The segments up to `newest` without a gap, oldest first, as many as a playlist lists. */
  async listed(newest, { segment, group }) {
    this.position.samples = segment.samples;
    const found = [segment];
    while (found.length < Math.min(group.playlistSegments, MAX_LISTED)) {
      const before = await this.readable(() => this.chain.segment(found[0].n - 1, this.block));
      if (!before) break;
      found.unshift(before.segment);
    }
    return found;
  }

  async init(rendition, { signal, on }) {
    const path = `/live/${encodeURIComponent(rendition)}/init.mp4`;
    const options = { limit: MAX_INIT_BYTES, signal, on };
    const proven = await this.isProven();
    const inits = proven ? await this.readable(() => this.chain.inits(rendition, this.block)) : null;
    if (!inits?.length && proven && !this.unprovenOwn) throw new TransferError(`the station’s init segment of ${rendition} is not known`);
    if (!inits?.length) return (await this.ownAlone(path, options)).bytes;
    const known = async (bytes) => {
      const digest = await this.hashing.sha256(bytes);
      return inits.some(({ cid }) => sameBytes(digest, cid.digest));
    };
    const check = async (bytes) => {
      if (await known(bytes)) return null;
      await this.refresh();
      inits.push(...(await this.readable(() => this.chain.inits(rendition, this.block))) ?? []);
      return (await known(bytes)) ? null : 'an init segment that the station did not sign';
    };
    return (await this.get(path, { ...options, check, cache: 'no-cache' })).bytes;
  }

  async segment(rendition, n, { signal, on }) {
    const path = `/live/${encodeURIComponent(rendition)}/${n}.m4s`;
    const proof = await this.proof(n);
    if (!proof) return (await this.ownAlone(path, { limit: MAX_SEGMENT_BYTES, signal, on })).bytes;
    const file = proof.segment.media.get(rendition);
    if (!file) throw new TransferError(`the station has no rendition ${rendition}`, 404);
    const fault = 'a segment that the station did not sign';
    const check = async (bytes) => {
      if ((await this.isOf(file.cid, bytes, fault)) === null) return null;
      // Before anybody is blamed, the newest that the station says.
      await this.refresh();
      const newer = await this.readable(() => this.chain.segment(n, this.block));
      return this.isOf(newer?.segment.media.get(rendition)?.cid ?? file.cid, bytes, fault);
    };
    const answer = await this.get(path, { limit: file.size, tooLong: fault, check, signal, on });
    this.sources.paced(answer.source, answer.totalMs > proof.segment.samples / 96);
    return answer.bytes;
  }

  /** station.json of the signed tree, for when this page's own server is silent; null where there is none. */
  async station() {
    if (!this.chain?.head) return null;
    await this.refresh();
    const bytes = await this.readable(() => this.chain.file('station.json', this.block));
    try {
      return bytes && JSON.parse(new TextDecoder().decode(bytes));
    } catch {
      return null;
    }
  }

  /** Measures how near each server is, where that is due, and takes the nearest. */
  async measure() {
    if (this.measuring) return;
    this.measuring = true;
    const before = this.sources.current;
    try {
      if (!(await this.isProven()) || !this.sources.isDue()) return;
      await Promise.all(this.sources.usable().map((source) => this.probe(source)));
    } finally {
      this.measuring = false;
    }
    this.sources.choose();
    if (before !== this.sources.current) this.changed();
  }

  /** The second answer counts: the first one has the connection to make. */
  async probe(source) {
    for (let n = 0; n < 2; n += 1) {
      try {
        const { bytes, firstMs } = await this.recordOf(source);
        const record = await this.chain.record(bytes);
        if (this.chain.compare(record) === 'old') return void this.lies(source, 'an old record of the station');
        this.sources.measured(source, firstMs);
      } catch (error) {
        if (error instanceof RecordError) return void this.blame(source, error);
        return void this.fails(source);
      }
    }
  }
}
