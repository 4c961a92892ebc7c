import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Feed } from '../../../web/feed.js';
import * as hashing from '../../../web/hashing.js';
import { Sources } from '../../../web/sources.js';
import { TooLong, TransferError } from '../../../web/transfer.js';
import { INIT, SignedStation, media, newKey, record } from '../signed_station.mjs';

const OWN = 'http://own.example';
const [A, B] = ['http://a.example', 'http://b.example'];

function playlist(newest) {
  const numbers = Array.from({ length: 16 }, (_, at) => newest - 15 + at);
  return Buffer.from(`#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:${numbers[0]}\n${numbers.map((n) => `#EXTINF:3.84,\n${n}.m4s\n`).join('')}`);
}

/** An honest server of a station; `lies` maps paths, or parts of them, to other answers. */
class Server {
  constructor(station, newest) {
    Object.assign(this, { station, newest, lies: new Map(), asked: [], dead: false, ms: 10 });
  }

  honest(path) {
    const { station, newest } = this;
    if (path === `/ipns/${station.name}?format=ipns-record`) return station.record;
    const cid = /^\/ipfs\/(.*)\?format=raw$/.exec(path)?.[1];
    if (cid) return station.blocks.get(cid);
    const [, rendition, name] = /^\/live\/(?:(\w+)\/)?(.*)$/.exec(path) ?? [];
    if (name === 'stream.m3u8') return Buffer.from('#EXTM3U\n#own\n');
    if (name === 'live.m3u8') return playlist(newest);
    if (name === 'init.mp4') return INIT;
    const n = Number(name?.replace('.m4s', ''));
    return n <= newest ? media(rendition, n) : undefined;
  }

  answer(path) {
    this.asked.push(path);
    if (this.dead) throw new TransferError('connection refused');
    const lie = [...this.lies].find(([part]) => path.includes(part));
    const found = lie ? lie[1] : this.honest(path);
    if (found instanceof Error) throw found;
    if (!found) throw new TransferError('status 404', 404);
    return new Uint8Array(found);
  }
}

function setUp({ strict = false, name, relays = { [A]: {}, [B]: {} }, newest = 140, station = new SignedStation({ from: 100, to: 150 }) } = {}) {
  const clock = { now: 1_000 };
  const servers = { [OWN]: new Server(station, newest) };
  for (const base of Object.keys(relays)) servers[base] = new Server(station, newest);
  const get = async (url, { limit, signal }) => {
    await null;
    if (signal?.aborted) throw new TransferError('aborted');
    const base = Object.keys(servers).find((each) => url.startsWith(each));
    const bytes = servers[base].answer(url.slice(base.length));
    if (bytes.length > limit) throw new TooLong('too long', 200);
    return { bytes, firstMs: servers[base].ms, totalMs: servers[base].ms };
  };
  const told = [];
  const sources = new Sources(new URL(OWN), () => clock.now);
  const feed = new Feed({ sources, strict, get, hashing, now: () => clock.now, on: { changed: () => told.push(feed.unproven) } });
  feed.name(name ?? station.name);
  sources.update({ relays: Object.keys(relays).map((base) => ({ peer: base, http: [base] })) });
  const source = (base) => sources.all().find((each) => each.base === base);
  return { clock, servers, station, sources, feed, told, source, play: (base) => { sources.current = source(base); } };
}

const segment = (feed, n, rendition = 'lofi') => feed.segment(rendition, n, {});
const list = async (feed, rendition = 'lofi') => (await feed.playlist(rendition, {})).match(/\d+(?=\.m4s)/g).map(Number);

describe('a stream whose station signs an index', () => {
  it('is played from the index: playlists, init segments and segments', async () => {
    const { feed, told } = setUp();
    assert.deepEqual(await list(feed), Array.from({ length: 16 }, (_, at) => 125 + at));
    assert.match(await feed.playlist('hifi', {}), /DISCONTINUITY-SEQUENCE:2\n/);
    assert.deepEqual(Buffer.from(await feed.init('hifi', {})), INIT);
    assert.deepEqual(Buffer.from(await segment(feed, 130)), media('lofi', 130));
    assert.equal(await feed.multivariant({}), '#EXTM3U\n', 'the one of the signed tree');
    assert.deepEqual(told, [null]);
  });

  it('costs one look at the record for many segments', async () => {
    const { feed, servers } = setUp();
    for (let n = 125; n <= 140; n += 1) await segment(feed, n);
    assert.equal(servers[OWN].asked.filter((path) => path.startsWith('/ipns/')).length, 1);
    assert.equal(servers[OWN].asked.filter((path) => path.startsWith('/ipfs/')).length, 4, 'root, index, two groups');
  });

  it('is proven to everybody who asks at once', async () => {
    const { feed } = setUp({ strict: true });
    assert.deepEqual(await Promise.all([feed.isProven(), feed.isProven(), feed.isProven()]), [true, true, true]);
  });

  it('goes on when the index grows', async () => {
    const { feed, station, servers } = setUp();
    await segment(feed, 140);
    station.to = 200;
    station.publish();
    servers[OWN].newest = 180;
    assert.equal((await list(feed)).at(-1), 180);
    assert.deepEqual(Buffer.from(await segment(feed, 180)), media('lofi', 180));
  });

  it('does not play what the station has not announced', async () => {
    const { feed, servers } = setUp();
    servers[OWN].newest = 170;
    await assert.rejects(list(feed), /has not announced segment 170/);
    await assert.rejects(segment(feed, 170), /has not announced/);
    assert.equal(servers[OWN].asked.includes('/live/lofi/170.m4s'), false);
  });
});

describe('a server that lies', () => {
  const lies = [
    ['about a segment', '/live/lofi/130.m4s', Buffer.from('tampered'), /a segment that the station did not sign/],
    ['with more than a segment', '/live/lofi/130.m4s', Buffer.alloc(5_000), /a segment that the station did not sign/],
    ['about a block of the tree', '/ipfs/', Buffer.from('{}'), /a block that is not the one of its CID/],
    ['with a record that another key has signed', '/ipns/', record(newKey(), { root: 'bafkqaaa', sequence: 9e9, eol: 9e12 }), /not good: its signature is not the station/],
    ['with no record at all', '/ipns/', Buffer.from('<html>'), /a record of the station that is not good/],
    ['with a record that never ends', '/ipns/', Buffer.alloc(20_000), /a record that is none/],
  ];
  for (const [how, path, bytes, what] of lies) {
    it(`${how} is dropped and named, and another plays on`, async () => {
      const { feed, servers, source, play, sources } = setUp();
      servers[A].lies.set(path, bytes);
      play(A);
      assert.deepEqual(Buffer.from(await segment(feed, 130)), media('lofi', 130));
      assert.match(source(A).lied, what);
      assert.notEqual(sources.current, source(A));
      const asked = servers[A].asked.length;
      await segment(feed, 131);
      assert.equal(servers[A].asked.length, asked, 'it is not asked again');
    });
  }

  it('about an init segment is dropped, after a look at what the station says now', async () => {
    const { feed, servers, source, play } = setUp();
    servers[A].lies.set('init.mp4', Buffer.from('tampered'));
    play(A);
    assert.deepEqual(Buffer.from(await feed.init('lofi', {})), INIT);
    assert.match(source(A).lied, /init segment/);
  });

  it('with a record that has expired is dropped', async () => {
    const { feed, servers, source, play, station } = setUp();
    servers[A].lies.set('/ipns/', station.sign({ eol: Date.now() - 1 }));
    play(A);
    await segment(feed, 130);
    assert.match(source(A).lied, /it has expired/);
  });

  it('with an old record is dropped, and a relay that is minutes behind is not', async () => {
    const { feed, servers, source, station, sources, clock } = setUp();
    await segment(feed, 130);
    servers[A].lies.set('/ipns/', station.sign({ sequence: 5, eol: station.eol - 36 * 60_000 }));
    servers[B].lies.set('/ipns/', station.sign({ sequence: 6, eol: station.eol - 20 * 60_000 }));
    clock.now += 1;
    await feed.measure();
    assert.match(source(A).lied, /an old record/);
    assert.equal(source(B).lied, null);
    assert.equal(feed.chain.head.sequence, BigInt(station.sequence));
    assert.ok(sources.usable().includes(source(B)));
  });

  it('is dropped even when nobody else is left, and what it sent is not played', async () => {
    const { feed, servers, sources } = setUp({ relays: {} });
    await segment(feed, 129);
    servers[OWN].lies.set('130.m4s', Buffer.from('tampered'));
    await assert.rejects(segment(feed, 130), /did not sign/);
    assert.deepEqual(sources.order(), []);
    await assert.rejects(segment(feed, 131), /no server is left/);
  });
});

describe('a record', () => {
  it('never goes back', async () => {
    const { feed, station, servers } = setUp();
    const before = station.record;
    station.to = 160;
    station.publish();
    await segment(feed, 140);
    const { sequence } = feed.chain.head;
    servers[OWN].lies.set('/ipns/', before);
    await feed.refresh(() => false);
    assert.equal(feed.chain.head.sequence, sequence);
    await feed.chain.adopt(await feed.chain.record(before), feed.block);
    assert.equal(feed.chain.head.sequence, sequence, 'nor by a tree that was long on its way');
    await segment(feed, 140);
  });

  it('is asked of others where the first has no newer one', async () => {
    const { feed, station, servers } = setUp();
    await segment(feed, 140);
    servers[OWN].lies.set('/ipns/', station.record);
    station.to = 170;
    station.publish();
    servers[B].newest = 165;
    assert.deepEqual(Buffer.from(await segment(feed, 160)), media('lofi', 160));
  });
});

describe('a server that is gone', () => {
  it('in mid-segment is replaced for the same segment, and the next one is asked first from then on', async () => {
    const { feed, servers, play, sources } = setUp();
    play(A);
    await segment(feed, 129);
    servers[A].dead = true;
    assert.deepEqual(Buffer.from(await segment(feed, 130)), media('lofi', 130));
    assert.notEqual(sources.current.base, A);
    const asked = servers[A].asked.length;
    await segment(feed, 131);
    assert.equal(servers[A].asked.length, asked);
    assert.equal(sources.all().some(({ lied }) => lied), false, 'that is no lie');
  });

  it('may be the page’s own: playlists, segments and station.json come from relays', async () => {
    const { feed, servers, station } = setUp();
    await list(feed);
    servers[OWN].dead = true;
    station.to = 200;
    station.publish();
    for (const base of [A, B]) servers[base].newest = 180;
    assert.equal((await list(feed)).at(-1), 180);
    await segment(feed, 180);
    assert.deepEqual(await feed.station(), { name: 'signed' });
    assert.equal(feed.unproven, null);
  });

  it('is no failure of anybody when all say so', async () => {
    const { feed, sources } = setUp();
    await assert.rejects(feed.segment('lofi', 145, {}), { code: 404 });
    assert.ok(sources.all().every((source) => !sources.isResting(source)));
  });

  it('or has not what another one has loses its place to it', async () => {
    const { feed, servers, play, sources, source } = setUp();
    servers[A].newest = 135;
    play(A);
    assert.deepEqual(Buffer.from(await segment(feed, 138)), media('lofi', 138));
    assert.notEqual(sources.current, source(A));
    assert.equal(source(A).lied, null);
  });

  it('behind the others by a segment or two does not take the listener back', async () => {
    const { feed, servers, play } = setUp();
    assert.equal((await list(feed)).at(-1), 140);
    servers[A].newest = 138;
    play(A);
    assert.equal((await list(feed)).at(-1), 140);
    servers[A].newest = 130;
    assert.equal((await list(feed)).at(-1), 130);
  });

  it('or lists what the station has not announced, or hurries ahead of the others, is left', async () => {
    for (const newest of [9_999, 150]) {
      const { feed, servers, play, sources, source } = setUp();
      await list(feed);
      servers[A].newest = newest;
      play(A);
      assert.equal((await list(feed)).at(-1), 140);
      assert.notEqual(sources.current, source(A));
    }
    const { feed, servers, play, sources, source } = setUp();
    servers[A].newest = 9_999;
    play(A);
    await assert.rejects(list(feed), /has not announced/, 'without anything to go by');
    assert.notEqual(sources.current, source(A));
    assert.equal((await list(feed)).at(-1), 140);
  });

  it('or jumps as the others do is not left', async () => {
    const { feed, servers, play, sources, source, station } = setUp();
    await list(feed);
    station.to = 300;
    station.publish();
    for (const base of [OWN, A, B]) servers[base].newest = 290;
    play(A);
    assert.equal((await list(feed)).at(-1), 290);
    assert.equal(sources.current, source(A));
  });

  it('or stands still is left for one that goes on', async () => {
    const { feed, servers, play, sources, clock } = setUp();
    play(A);
    await list(feed);
    servers[B].newest = 145;
    servers[OWN].newest = 145;
    clock.now += 8_000;
    assert.equal((await list(feed)).at(-1), 140, 'it may only be a moment late');
    clock.now += 8_000;
    assert.equal((await list(feed)).at(-1), 145);
    assert.notEqual(sources.current.base, A);
  });
});

describe('a stream without an index', () => {
  const old = () => new SignedStation().publish({ index: false });

  it('plays from the page’s own server alone, and the page says that it is not verified', async () => {
    const { feed, servers, told } = setUp({ station: old() });
    assert.equal((await list(feed)).at(-1), 140);
    assert.deepEqual(Buffer.from(await segment(feed, 140)), media('lofi', 140));
    assert.equal(await feed.multivariant({}), '#EXTM3U\n#own\n');
    assert.deepEqual(Buffer.from(await feed.init('lofi', {})), INIT);
    assert.deepEqual(told, ['this server’s stream has no index of its segments']);
    for (const base of [A, B]) servers[base].newest = 141;
    await assert.rejects(segment(feed, 141), { code: 404 });
    assert.ok([A, B].every((base) => servers[base].asked.every((path) => !path.startsWith('/live'))));
  });

  it('or without a record plays unverified, and is verified once there is one', async () => {
    const { feed, servers, clock } = setUp({ relays: {} });
    servers[OWN].lies.set('/ipns/', new TransferError('status 503', 503));
    await segment(feed, 140);
    assert.match(feed.unproven, /no signed record/);
    servers[OWN].lies.clear();
    await segment(feed, 140);
    assert.match(feed.unproven, /no signed record/, 'not asked at every turn');
    clock.now += 11_000;
    await segment(feed, 140);
    assert.equal(feed.unproven, null);
  });

  it('that had one plays on, and the page says so', async () => {
    const { feed, servers } = setUp({ relays: {} });
    await segment(feed, 140);
    servers[OWN].lies.set('/ipns/', new TransferError('status 503', 503));
    servers[OWN].newest = 160;
    assert.deepEqual(Buffer.from(await segment(feed, 160)), media('lofi', 160));
    assert.match(feed.unproven, /no signed record/);
  });

  it('is not played where the listener named the station', async () => {
    const { feed, servers } = setUp({ strict: true, station: old(), relays: {} });
    for (const load of [() => list(feed), () => segment(feed, 140), () => feed.init('lofi', {}), () => feed.multivariant({})]) {
      await assert.rejects(load(), /can prove that it is that station/);
    }
    assert.ok(servers[OWN].asked.every((path) => !path.startsWith('/live')));
  });

  it('nor is another station’s', async () => {
    const { feed } = setUp({ strict: true, name: newKey().name, relays: {} });
    await assert.rejects(segment(feed, 140), /can prove that it is that station/);
  });

  it('is told of names that the page cannot check', async () => {
    const { feed } = setUp({ relays: {} });
    feed.name('k2k4r8ld1bw713uhotihqque4vuy3glg1nx9arcnu9p0hb3ohz3iffwv');
    assert.deepEqual(Buffer.from(await segment(feed, 140)), media('lofi', 140));
    assert.match(feed.unproven, /cannot check names like k2k/);
  });
});

describe('the nearest', () => {
  it('is measured by the answer to the record, once there is a chain', async () => {
    const { feed, servers, sources, clock } = setUp();
    Object.assign(servers[A], { ms: 200 });
    Object.assign(servers[B], { ms: 40 });
    Object.assign(servers[OWN], { ms: 300 });
    clock.now += 1;
    await feed.measure();
    assert.equal(sources.current.base, B);
    servers[B].dead = true;
    await segment(feed, 130);
    assert.equal(sources.current.base, A);
  });
});
