// A reverse proxy of a station for tests: a relay as a listener sees it, which can be made to lie, to be slow and to die.

import { createServer, request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

/** Written over the middle of a segment, to be looked for where it must not arrive. */
export const MARK = 'TAMPERED';

export class Proxy {
  /** `name` is the host under which the browser asks for it; `delayMs` holds up the record, by which nearness is measured. */
  constructor(station, { name, delayMs = 0 }) {
    Object.assign(this, { station: new URL(station), name, delayMs, sockets: new Set(), sent: [], relays: null, tampers: null, dies: null });
  }

  get url() {
    return `http://${this.name}:${this.port}`;
  }

  async start(port = 0) {
    this.server = createServer((asked, answer) => this.answer(asked, answer).catch(() => answer.destroy()));
    this.server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    await new Promise((resolve) => { this.server.listen(port, '127.0.0.1', resolve); });
    this.port = this.server.address().port;
    return this;
  }

  /** Whatever is under way is cut, and nobody is let in any more. */
  async stop() {
    const closed = new Promise((resolve) => { this.server.close(resolve); });
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** From the next segment on, one segment is tampered with. Resolves to its path when that has been sent. */
  lie() {
    return new Promise((resolve) => { this.tampers = resolve; });
  }

  /** Half of the next segment is sent, and then nothing more. Resolves to its path. */
  die() {
    return new Promise((resolve) => { this.dies = resolve; });
  }

  fetch(asked) {
    const { hostname, port } = this.station;
    const headers = { ...asked.headers, host: this.station.host, connection: 'close' };
    return new Promise((resolve, reject) => {
      const own = request({ hostname, port, path: asked.url, method: asked.method, headers }, (found) => {
        const parts = [];
        found.on('data', (part) => parts.push(part));
        found.on('end', () => resolve({ status: found.statusCode, headers: found.headers, body: Buffer.concat(parts) }));
        found.on('error', reject);
      });
      own.on('error', reject);
      own.end();
    });
  }

  async answer(asked, answer) {
    const { status, headers, body } = await this.fetch(asked);
    if (asked.url.startsWith('/ipns/')) await pause(this.delayMs);
    this.sent.push(asked.url);
    const isSegment = asked.url.endsWith('.m4s') && status === 200;
    if (isSegment && this.dies) return this.dieNow(asked, answer, { status, headers, body });
    let sent = body;
    if (isSegment && this.tampers) sent = this.tamper(asked, body);
    if (asked.url === '/station.json' && this.relays) sent = Buffer.from(JSON.stringify({ ...JSON.parse(body), relays: this.relays }));
    delete headers.etag;
    delete headers['transfer-encoding'];
    answer.writeHead(status, { ...headers, connection: 'keep-alive', 'content-length': sent.length });
    answer.end(sent);
  }

  tamper(asked, body) {
    const sent = Buffer.from(body);
    sent.write(MARK, Math.floor(sent.length / 2));
    this.tampers(asked.url);
    this.tampers = null;
    return sent;
  }

  async dieNow(asked, answer, { status, headers, body }) {
    const died = this.dies;
    this.dies = null;
    answer.writeHead(status, headers);
    await new Promise((resolve) => { answer.write(body.subarray(0, Math.floor(body.length / 2)), resolve); });
    await pause(100);
    await this.stop();
    died(asked.url);
  }
}
