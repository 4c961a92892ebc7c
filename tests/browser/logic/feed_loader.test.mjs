import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { loaderOf, meaning } from '../../../web/feed_loader.js';
import { TransferError } from '../../../web/transfer.js';

const SEGMENT = 'http://own.example/live/hifi/123.m4s';

/** A load of `url` by a loader over `feed`: resolves to what hls.js is told. */
function load(feed, { url = SEGMENT, patience = 60_000, then = () => {} } = {}) {
  return new Promise((resolve) => {
    const loader = new (loaderOf(feed))({});
    loader.load({ url, responseType: 'arraybuffer' }, { loadPolicy: { maxLoadTimeMs: patience } }, {
      onSuccess: (response, stats) => resolve({ said: 'success', response, stats, loader }),
      onError: (error) => resolve({ said: 'error', error, loader }),
      onTimeout: () => resolve({ said: 'timeout', loader }),
      onAbort: () => resolve({ said: 'abort', loader }),
    });
    then(loader);
  });
}

describe('an address', () => {
  it('stands for a file of the stream, or for nothing', () => {
    assert.deepEqual(meaning('/live/stream.m3u8'), ['multivariant']);
    assert.deepEqual(meaning('http://x/live/lo%20fi/live.m3u8?x=1'), ['playlist', 'lo fi']);
    assert.deepEqual(meaning('http://x/live/lofi/init.mp4'), ['init', 'lofi']);
    assert.deepEqual(meaning(SEGMENT), ['segment', 'hifi', 123]);
    for (const url of ['/ipfs/x', '/live', '/live/a/b/1.m4s', '/live/a/1.mp4', '/live/a/-1.m4s', '/live/a/1234567890123456.m4s']) {
      assert.equal(meaning(url), null, url);
    }
  });
});

describe('a load', () => {
  it('gives bytes as hls.js wants them, and the speed of the server that had them', async () => {
    const feed = {
      async segment(rendition, n, { on }) {
        on.attempt({});
        on.first();
        on.progress(2);
        await new Promise((resolve) => { setTimeout(resolve, 30); });
        on.attempt({});
        on.first();
        on.progress(3);
        return Uint8Array.from([rendition.length, n, 0]);
      },
    };
    const before = performance.now();
    const { response, stats } = await load(feed);
    assert.deepEqual([response.code, response.url, [...new Uint8Array(response.data)]], [200, SEGMENT, [4, 123, 0]]);
    assert.ok(stats.loading.start >= before + 29, 'the first attempt does not count');
    assert.ok(stats.loading.first >= stats.loading.start && stats.loading.end >= stats.loading.first);
    assert.deepEqual([stats.loaded, stats.total], [3, 3]);
  });

  it('gives playlists as text', async () => {
    const { response } = await load({ playlist: async () => '#EXTM3U' }, { url: '/live/lofi/live.m3u8' });
    assert.equal(response.data, '#EXTM3U');
  });

  it('fails with the status, and with 0 for anything else', async () => {
    const failing = (error) => load({ segment: async () => { throw error; } });
    assert.equal((await failing(new TransferError('gone', 404))).error.code, 404);
    assert.equal((await failing(new DOMException('x', 'AbortError'))).error.code, 0);
    assert.equal((await load({}, { url: '/elsewhere' })).error.code, 404);
    assert.equal((await load({}, { url: '/live/%ff/1.m4s' })).error.code, 0);
  });

  it('that takes too long, or is given up, ends, and nothing is heard of it later', async () => {
    for (const [said, options] of [['timeout', { patience: 10 }], ['abort', { then: (loader) => loader.abort() }]]) {
      let signal;
      let answer;
      const feed = {
        segment: (rendition, n, options2) => new Promise((resolve) => {
          signal = options2.signal;
          answer = resolve;
        }),
        fails: () => assert.fail('nobody was silent'),
      };
      const told = await load(feed, options);
      assert.equal(told.said, said);
      assert.equal(signal.aborted, true);
      assert.equal(told.loader.stats.aborted, true);
      answer(new Uint8Array());
      told.loader.destroy();
    }
  });

  it('that hls.js gives up while the server is silent is the server’s failure', async () => {
    const now = mock.method(performance, 'now', () => 1_000);
    const source = {};
    const failed = [];
    const feed = {
      segment: (rendition, n, { on }) => {
        on.attempt(source);
        return new Promise(() => {});
      },
      fails: (each) => failed.push(each),
    };
    const give = (loader) => {
      now.mock.mockImplementation(() => 3_000);
      loader.abort();
    };
    await load(feed, { then: give });
    now.mock.restore();
    assert.deepEqual(failed, [source]);
  });
});
