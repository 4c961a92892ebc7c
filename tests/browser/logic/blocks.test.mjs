import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCid, readCid } from '../../../web/cid.js';
import { decode } from '../../../web/dag_cbor.js';
import { directory as read, DirectoryError } from '../../../web/dag_pb.js';
import { IndexError, mediaPlaylist, newestOf, readGroup } from '../../../web/segment_index.js';
import { SignedStation, directory, field, raw } from '../signed_station.mjs';

describe('a CID', () => {
  it('is the same in binary and as text', () => {
    for (const { cid, binary } of [raw('a'), raw(''), directory([])]) {
      assert.equal(readCid(binary).text, cid);
      assert.deepEqual(parseCid(cid), readCid(Uint8Array.from(binary)));
    }
    assert.equal(directory([]).cid, 'bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354');
  });

  it('of another version, hash, codec or alphabet is refused', () => {
    const { cid, binary } = raw('a');
    const spellings = ['QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N', `${cid}a`, cid.toUpperCase(), cid.slice(0, -1), '', null, 5];
    for (const text of spellings) assert.throws(() => parseCid(text), `${text}`);
    for (const at of [0, 1, 2, 3]) assert.throws(() => readCid(Buffer.from(binary).fill(0x7f, at, at + 1)));
  });
});

describe('a directory', () => {
  it('gives its links by their names', () => {
    const found = read(directory([['b', raw('2')], ['a', raw('1')]]).bytes);
    assert.deepEqual([...found].map(([name, { text }]) => [name, text]), [['a', raw('1').cid], ['b', raw('2').cid]]);
  });

  it('that is sharded, a file, doubled or cut short is refused', () => {
    const twice = [['a', raw('1')], ['a', raw('2')]];
    for (const type of [0, 2, 5]) assert.throws(() => read(directory([], type).bytes), DirectoryError);
    assert.throws(() => read(directory(twice).bytes), DirectoryError);
    const whole = directory([['a', raw('1')]]).bytes;
    for (let length = 0; length < whole.length; length += 1) {
      assert.throws(() => read(whole.subarray(0, length)), DirectoryError, `${length} bytes`);
    }
    assert.throws(() => read(field(2, field(2, 'no cid'))), DirectoryError);
    assert.throws(() => read(Buffer.from('<html></html>')), DirectoryError);
  });
});

describe('DAG-CBOR', () => {
  it('is one value without indefinite lengths, doubled keys or anything behind it', () => {
    assert.equal(decode(Buffer.from([0x18, 0x64])), 100n);
    assert.deepEqual(decode(Buffer.from('a16161f5', 'hex')), new Map([['a', true]]));
    for (const hex of ['', '9f00ff', '5f4100ff', 'a2616100616100', '0000', '1b00', 'a10000', '61ff', 'f7', 'c100', '5bffffffffffffffff', '9bffffffffffffffff', '81'.repeat(20) + '00']) {
      assert.throws(() => decode(Buffer.from(hex, 'hex')), `${hex}`);
    }
  });
});

describe('a group of the index', () => {
  const station = new SignedStation({ from: 100, to: 130 });
  const bytes = (group) => Buffer.from(JSON.stringify(group));

  it('names the files of its segments, and unknown fields are ignored', () => {
    const group = readGroup(7, bytes({ ...station.group(7), later: 1 }));
    assert.deepEqual([...group.segments.keys()], Array.from({ length: 16 }, (_, n) => 112 + n));
    assert.equal(group.segments.get(113).media.get('hifi').cid.text, station.group(7).segments[1].media[1].cid);
    assert.deepEqual([group.targetDuration, group.playlistSegments, group.inits.get('lofi').size], [4, 16, 4]);
  });

  it('that breaks the format or its bounds is refused', () => {
    const bent = (change) => {
      const group = station.group(7);
      change(group);
      return bytes(group);
    };
    const cases = [
      Buffer.from('{'), Buffer.from('null'), Buffer.from('[]'), Buffer.alloc(1024 * 1024 + 1, ' '),
      bent((group) => { group.segments[0].n = 111; }),
      bent((group) => { group.segments[0].n = -1; }),
      bent((group) => { group.segments[0].media.pop(); }),
      bent((group) => { group.segments[0].media[0].cid = 'b'; }),
      bent((group) => { group.segments[0].media[0].cid = directory([]).cid; }),
      bent((group) => { group.segments[0].media[0].size = 1e12; }),
      bent((group) => { group.segments[0].samples = 1.5; }),
      bent((group) => { group.segments[0].program_date_time_ms = 1e300; }),
      bent((group) => { group.segments.push(group.segments[0]); }),
      bent((group) => { group.renditions = {}; }),
      bent((group) => { group.renditions[0].name = '../x'; }),
      bent((group) => { delete group.target_duration; }),
    ];
    cases.forEach((each, at) => assert.throws(() => readGroup(7, each), IndexError, `case ${at}`));
  });
});

describe('a media playlist', () => {
  it('reads as the station writes it', () => {
    const segment = (n, discontinuity) => ({ n, date: n * 3_840 - 43, samples: 184_320, discontinuity, discontinuitySequence: 2 });
    // The same as in src/hls/media_playlist.rs.
    assert.equal(mediaPlaylist(4, [segment(466_900_000, false), segment(466_900_001, true)]),
      '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:466900000\n'
      + '#EXT-X-DISCONTINUITY-SEQUENCE:2\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI="init.mp4"\n'
      + '#EXT-X-PROGRAM-DATE-TIME:2026-10-25T02:39:59.957Z\n#EXTINF:3.840000,\n466900000.m4s\n'
      + '#EXT-X-DISCONTINUITY\n'
      + '#EXT-X-PROGRAM-DATE-TIME:2026-10-25T02:40:03.797Z\n#EXTINF:3.840000,\n466900001.m4s\n');
  });

  it('tells how far it goes', () => {
    assert.equal(newestOf('#EXTM3U\n#EXTINF:3.84,\n7.m4s\n#EXTINF:3.84,\r\n8.m4s\r\n'), 8);
    for (const text of ['', '#EXTM3U\n', 'http://elsewhere/8.m4s\n', '../8.m4s\n']) assert.equal(newestOf(text), null);
  });
});
