import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Sources, isLocal, offered } from '../../../web/sources.js';

const [A, B, C] = ['http://a.example', 'http://b.example', 'http://c.example'];
const RELAYS = [A, B, C].map((http, n) => ({ peer: `peer-${n}`, http: [http], listeners: n }));

function setUp({ info = { relays: RELAYS }, ms = {} } = {}) {
  const clock = { now: 0 };
  const sources = new Sources(new URL('http://own.example/'), () => clock.now);
  sources.update(info);
  const of = (base) => sources.all().find((source) => source.base === base);
  const measure = (found) => {
    for (const [base, each] of Object.entries(found)) sources.measured(of(base), each);
    sources.choose();
  };
  if (Object.keys(ms).length) measure(ms);
  return { clock, sources, of, measure, bases: () => sources.order().map(({ base }) => base) };
}

describe('the nearest', () => {
  it('is taken at the first measurement, and one that is not measured never', () => {
    const { sources, bases } = setUp({ ms: { 'http://own.example': 120, [A]: 90, [B]: 10 } });
    assert.equal(sources.current.base, B);
    assert.deepEqual(bases(), [B, A, 'http://own.example', C]);
  });

  it('of equally near ones is a relay in the order of station.json, before its station', () => {
    const { sources } = setUp({ ms: { 'http://own.example': 4, [B]: 9, [A]: 20 } });
    assert.equal(sources.current.base, A);
  });

  it('of equally near ones is the page’s own server where that is a relay itself', () => {
    const { sources } = setUp({ info: { relays: RELAYS, role: 'relay' }, ms: { 'http://own.example': 15, [A]: 4 } });
    assert.equal(sources.current.base, 'http://own.example');
  });

  it('stays while another one is only a little nearer, and not when it is clearly worse', () => {
    const { sources, measure } = setUp({ ms: { [A]: 100, [B]: 130 } });
    measure({ [A]: 190, [B]: 100 });
    assert.equal(sources.current.base, A);
    measure({ [A]: 210, [B]: 100 });
    assert.equal(sources.current.base, B);
  });

  it('is measured anew when the one that plays has become slow, and not all the time', () => {
    const { sources, of, clock } = setUp({ ms: { [A]: 10, [B]: 20 } });
    clock.now = 14_000;
    for (let n = 0; n < 5; n += 1) sources.answered(of(A), 400);
    assert.equal(sources.isDue(), false, 'measured a moment ago');
    clock.now = 15_000;
    assert.equal(sources.isDue(), true);
    sources.measured(of(A), 10);
    sources.choose();
    clock.now += 20_000;
    sources.answered(of(A), 20);
    assert.equal(sources.isDue(), false, 'nothing is wrong');
    sources.answered(of(A), 4_000);
    sources.choose();
    clock.now += 1;
    sources.answered(of(A), 400);
    assert.equal(sources.isDue(), false);
    clock.now += 300_000;
    sources.measured(of(A), 10);
    assert.equal(sources.isDue(), true);
  });
});

describe('a server that fails', () => {
  it('gives its place to the next and rests, longer each time, but is asked last', () => {
    const { sources, of, clock, bases } = setUp({ ms: { [A]: 1, [B]: 30, [C]: 60, 'http://own.example': 90 } });
    sources.failed(of(A));
    assert.deepEqual(bases(), [B, C, 'http://own.example', A]);
    clock.now = 5_001;
    assert.deepEqual(bases(), [B, A, C, 'http://own.example']);
    sources.failed(of(A));
    clock.now += 5_001;
    assert.equal(bases().at(-1), A);
    sources.answered(of(A), 1);
    assert.equal(bases()[1], A);
    assert.equal(sources.current.base, B, 'the one that plays stays');
  });

  it('stays the one that plays where there is no other', () => {
    const { sources } = setUp({ info: {} });
    sources.failed(sources.own);
    assert.deepEqual(sources.order(), [sources.own]);
  });

  it('is left after two slow segments in a row, and not after one', () => {
    const { sources, of } = setUp({ ms: { [A]: 1, [B]: 40 } });
    for (const slow of [true, false, true]) sources.paced(of(A), slow);
    assert.equal(sources.current.base, A);
    sources.paced(of(A), true);
    assert.equal(sources.current.base, B);
  });
});

describe('a server that lies', () => {
  it('is never asked again, under any of its addresses, and not when it is offered anew', () => {
    const relays = [{ peer: 'one', http: [A, B] }, { peer: 'two', http: [C] }];
    const { sources, of, bases } = setUp({ info: { relays }, ms: { [A]: 1, [B]: 2, [C]: 30 } });
    sources.lies(of(A), 'a tampered segment');
    assert.deepEqual(bases(), [C, 'http://own.example']);
    assert.equal(of(B).lied, 'a tampered segment');
    sources.update({ relays: [] });
    sources.update({ relays: [...relays, { peer: 'one', http: ['http://d.example'] }] });
    assert.deepEqual(bases().sort(), [C, 'http://own.example']);
    assert.equal(sources.current.base, C);
  });

  it('is remembered by its address where it has no peer id', () => {
    const relays = [{ http: [A] }, { http: [B] }];
    const { sources, of, bases } = setUp({ info: { relays }, ms: { [A]: 1, [B]: 2 } });
    sources.lies(of(A), 'x');
    sources.update({ relays: [] });
    sources.update({ relays });
    assert.deepEqual(bases(), [B, 'http://own.example']);
  });

  it('may be the page’s own, and then nobody is left', () => {
    const { sources } = setUp({ info: {} });
    sources.lies(sources.own, 'x');
    assert.deepEqual(sources.order(), []);
    assert.equal(sources.isDue(), false);
  });
});

describe('what station.json offers', () => {
  const bases = (relays, page, peer) => offered(relays, new URL(page), peer).map(({ base }) => base);

  it('is bounded and may be anything', () => {
    for (const relays of [null, {}, 'x', [null], [{}], [{ http: 'x' }], [{ http: [5, null, 'ftp://x', '::', 'http://u:p@x.org', 'http://x.org/?q'] }]]) {
      assert.deepEqual(bases(relays, 'http://own.example'), []);
    }
    const many = Array.from({ length: 40 }, (_, n) => ({ http: Array.from({ length: 9 }, (_, m) => `http://r${n}.example:${m + 1}`) }));
    assert.equal(bases(many, 'http://own.example').length, 16);
  });

  it('leaves out the page’s own server', () => {
    const relays = [{ peer: 'me', http: ['http://other.example'] }, { peer: 'it', http: ['http://own.example/', 'http://r.example/sub/'] }];
    assert.deepEqual(bases(relays, 'http://own.example', 'me'), ['http://r.example/sub']);
  });

  it('is on https alone for a page on https', () => {
    const relays = [{ http: ['http://r.example', 'https://r.example'] }];
    assert.deepEqual(bases(relays, 'https://own.example'), ['https://r.example']);
  });

  it('is not of a home network for a page from the internet', () => {
    const relays = [{ http: ['http://192.168.1.4:8080', 'http://board.local', 'http://[fd00::1]:8080', 'http://r.example'] }];
    assert.deepEqual(bases(relays, 'http://own.example'), ['http://r.example']);
    assert.equal(bases(relays, 'http://10.0.0.2:8080').length, 4);
    for (const host of ['172.16.0.1', '169.254.1.1', 'localhost', 'board', '[::1]', '[fe80::1]']) assert.ok(isLocal(host), host);
    for (const host of ['172.32.0.1', '8.8.8.8', 'example.org', '[2001:db8::1]']) assert.ok(!isLocal(host), host);
  });
});
