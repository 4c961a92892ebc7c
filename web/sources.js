// The servers that a listener can hear the station from, and which of them to ask first. Pure.

const MAX_RELAYS = 16;
const MAX_URLS = 4;
/** Milliseconds, or a share of the best: answers that differ by less come from equally near. */
const NEAR_MS = 20;
const NEAR_SHARE = 0.25;
/** The server that plays is left for another only where it takes this many times as long, and this much longer. */
const WORSE_TIMES = 2;
const WORSE_MS = 100;
const REST_MS = 5_000;
const LONGEST_REST_MS = 120_000;
const MEASURE_MS = 300_000;
const MEASURE_AGAIN_MS = 15_000;
/** What one answer weighs in the mean. */
const WEIGHT = 0.3;
/** Slow answers in a row after which another server is tried. */
const SLOW = 2;

/** Whether a host name or address is of a home network or this machine, by its looks. */
export function isLocal(host) {
  if (/^(localhost|.*\.localhost|.*\.local|.*\.lan|.*\.home\.arpa|[^.:]+)$/i.test(host)) return true;
  if (/^(10|127)\.|^192\.168\.|^169\.254\.|^172\.(1[6-9]|2\d|3[01])\./.test(host)) return true;
  return /^\[(::1|f[cd].*|fe[89ab].*)\]$/i.test(host);
}

/** The address of a relay as a prefix for paths; null for what a page at `page` (a URL) cannot or should not ask. */
export function baseOf(text, page) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  const plain = url.protocol === 'http:' && page.protocol === 'http:';
  if (url.username || url.password || url.search || url.hash) return null;
  if (!plain && url.protocol !== 'https:') return null;
  // A page from the internet that asks the listener's own network gets a warning of the browser, and no answer.
  if (isLocal(url.hostname) && !isLocal(page.hostname)) return null;
  return url.origin + url.pathname.replace(/\/+$/, '');
}

/** Servers that station.json (`relays`) offers to a page: `{base, peer}`, in its order. */
export function offered(relays, page, ownPeer) {
  const found = new Map();
  for (const relay of (Array.isArray(relays) ? relays : []).slice(0, MAX_RELAYS)) {
    if (!Array.isArray(relay?.http) || (ownPeer && relay.peer === ownPeer)) continue;
    for (const text of relay.http.slice(0, MAX_URLS)) {
      const base = baseOf(text, page);
      if (base !== null && base !== page.origin && !found.has(base)) found.set(base, String(relay.peer ?? ''));
    }
  }
  return [...found].slice(0, MAX_RELAYS).map(([base, peer]) => ({ base, peer }));
}

/**
 * A source: `base` (prefix of every path), `peer`, `own`, `ms` (mean time to answer, null before it is measured), `lied`
 * (what it did, in words, or null).
 */
export class Sources {
  constructor(page, now = () => performance.now()) {
    Object.assign(this, { page, now, relays: [], liars: new Map(), measuredAt: -Infinity, wish: -Infinity });
    this.own = this.source(page.origin, '', true);
    this.current = this.own;
    this.ownIsRelay = false;
  }

  source(base, peer, own = false) {
    return { base, peer, own, ms: null, failures: 0, slow: 0, restUntil: -Infinity, lied: null };
  }

  /** Takes in what station.json says of this server and of relays. */
  update({ relays, role, addresses }) {
    const peer = /\/p2p\/([^/]+)$/.exec(addresses?.[0] ?? '')?.[1];
    this.own.peer = peer ?? this.own.peer;
    this.ownIsRelay = role === 'relay';
    const before = new Map(this.relays.map((source) => [source.base, source]));
    const offers = offered(relays, this.page, this.own.peer);
    this.relays = offers.map(({ base, peer: of }) => before.get(base) ?? this.source(base, of));
    for (const source of this.relays) source.lied ??= this.liars.get(source.base) ?? this.liars.get(source.peer) ?? null;
    if (this.current !== this.own && !this.relays.includes(this.current) && !this.current.lied) {
      // It plays, whatever the list says.
      this.relays.push(this.current);
    }
    if (this.relays.some((source) => source.ms === null && !this.isResting(source))) this.wish = this.now();
  }

  all() {
    return [this.own, ...this.relays];
  }

  usable() {
    return this.all().filter((source) => !source.lied);
  }

  isResting(source) {
    return source.restUntil > this.now();
  }

  /** Everybody to ask, best first: the one that plays, the measured ones by nearness, then the resting ones. */
  order() {
    const key = (source) => [
      source === this.current ? 0 : 1,
      this.isResting(source) ? source.restUntil : 0,
      source.ms ?? 1_000,
    ];
    return this.usable()
      .map((source) => ({ source, key: key(source) }))
      .sort((a, b) => a.key.map((part, at) => part - b.key[at]).find((difference) => difference) ?? 0)
      .map(({ source }) => source);
  }

  /** It answered after `ms`. */
  answered(source, ms) {
    source.ms = source.ms === null ? ms : source.ms + (ms - source.ms) * WEIGHT;
    Object.assign(source, { failures: 0, restUntil: -Infinity });
    const others = this.usable().filter((other) => other !== source && other.ms !== null && !this.isResting(other));
    if (source === this.current && others.some((other) => this.isWorse(source, other))) this.wish = this.now();
  }

  /** What one measurement found; replaces the mean. */
  measured(source, ms) {
    Object.assign(source, { ms, failures: 0, restUntil: -Infinity });
  }

  /** A segment took more than half its duration (`slow`), or not. Twice in a row, and another one is tried. */
  paced(source, slow) {
    source.slow = slow ? source.slow + 1 : 0;
    if (source.slow < SLOW) return;
    source.slow = 0;
    const others = this.usable().filter((other) => other !== source && !this.isResting(other));
    if (source === this.current && others.length) this.failed(source);
  }

  /** No answer, or a useless one: it rests, and the next best plays. */
  failed(source) {
    source.failures += 1;
    const rest = Math.min(REST_MS * 2 ** (source.failures - 1), LONGEST_REST_MS);
    source.restUntil = this.now() + rest;
    this.leave(source);
  }

  /** It gave what the station did not sign: it is not asked again while the page is open, under any of its addresses. */
  lies(source, what) {
    for (const each of this.all()) {
      if (each === source || (source.peer && each.peer === source.peer)) each.lied = what;
    }
    this.liars.set(source.base, what);
    if (source.peer) this.liars.set(source.peer, what);
    this.leave(source);
  }

  leave(source) {
    if (this.current !== source) return;
    const [next] = this.order().filter((other) => other !== source && !this.isResting(other));
    if (next) this.current = next;
    else if (source.lied) this.current = this.usable()[0] ?? this.own;
  }

  isWorse(source, other) {
    return source.ms > Math.max(other.ms * WORSE_TIMES, other.ms + WORSE_MS);
  }

  /** Whether nearness should be measured now. */
  isDue() {
    if (this.usable().length < 2) return false;
    const age = this.now() - this.measuredAt;
    return age >= MEASURE_MS || (this.wish > this.measuredAt && age >= MEASURE_AGAIN_MS);
  }

  /**
   * After a measurement: the nearest plays. Of equally near ones a relay before its station, in the order of
   * station.json, which has those with few listeners first. One that has been chosen stays unless it is clearly worse.
   */
  choose() {
    const first = this.measuredAt === -Infinity;
    this.measuredAt = this.now();
    const candidates = this.usable().filter((source) => source.ms !== null && !this.isResting(source));
    if (!candidates.length) return;
    const best = candidates.reduce((a, b) => (b.ms < a.ms ? b : a));
    const stays = !first && candidates.includes(this.current) && !this.isWorse(this.current, best);
    if (stays) return;
    const reach = best.ms + Math.max(NEAR_MS, best.ms * NEAR_SHARE);
    const near = candidates.filter((source) => source.ms <= reach);
    const rank = (source) => (source.own && !this.ownIsRelay ? MAX_RELAYS + 1 : this.all().indexOf(source));
    [this.current] = near.sort((a, b) => rank(a) - rank(b));
  }
}
