import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { TooLong, TransferError, get } from '../../../web/transfer.js';

/** What the server does with each path. */
const PATHS = {
  '/whole': (answer) => answer.end('whole'),
  '/gone': (answer) => answer.writeHead(404).end('not here'),
  '/none': (answer) => answer.writeHead(204).end(),
  '/silent': () => {},
  '/half': (answer) => answer.writeHead(200, { 'content-length': 10 }).write('half'),
  '/cut': (answer) => {
    answer.writeHead(200, { 'content-length': 10 }).write('half', () => answer.destroy());
  },
  '/endless': (answer) => {
    const more = () => answer.writable && answer.write('x'.repeat(1000), () => setImmediate(more));
    more();
  },
};

describe('a transfer', () => {
  let server;
  let url;
  before(async () => {
    server = createServer((asked, answer) => PATHS[asked.url](answer));
    await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    url = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const ask = (path, options) => get(url + path, { limit: 1000, patience: 5_000, ...options });

  it('gives the whole body, and tells of its beginning and of each part', async () => {
    const heard = [];
    const on = { first: () => heard.push('first'), progress: (bytes) => heard.push(bytes) };
    const { bytes, firstMs, totalMs } = await ask('/whole', { on });
    assert.equal(Buffer.from(bytes).toString(), 'whole');
    assert.ok(firstMs >= 0 && totalMs >= firstMs);
    assert.deepEqual(heard, ['first', 5]);
  });

  it('fails with the status of what is no 200', async () => {
    await assert.rejects(ask('/gone'), { constructor: TransferError, code: 404 });
    await assert.rejects(ask('/none'), { constructor: TransferError, code: 204 });
  });

  it('fails when the server is silent, before its answer or within it', async () => {
    for (const path of ['/silent', '/half']) {
      await assert.rejects(ask(path, { patience: 100 }), { constructor: TransferError, code: 0, message: 'silent for 100 ms' });
    }
  });

  it('fails when the server breaks off, or is not there', async () => {
    await assert.rejects(ask('/cut'), { constructor: TransferError, code: 0 });
    await assert.rejects(get('http://127.0.0.1:1/', { limit: 1, patience: 1000 }), { constructor: TransferError, code: 0 });
  });

  it('is bounded', async () => {
    await assert.rejects(ask('/endless'), { constructor: TooLong });
    await ask('/whole', { limit: 5 });
    await assert.rejects(ask('/whole', { limit: 4 }), { constructor: TooLong });
  });

  it('ends when it is given up, before or meanwhile', async () => {
    await assert.rejects(ask('/whole', { signal: AbortSignal.abort() }), { constructor: TransferError });
    const abort = new AbortController();
    const asked = ask('/half', { signal: abort.signal, on: { progress: () => abort.abort() } });
    await assert.rejects(asked, { constructor: TransferError, code: 0 });
  });
});
