// A station that signs, for tests: what it says is made here, byte by byte, by the specifications and not by the page's
// own code. Keys are Ed25519, blocks raw or plain directories, records with V2 signatures alone.

import { createHash, generateKeyPairSync, sign } from 'node:crypto';

export const SEGMENT_SAMPLES = 184_320;
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

function toBase32(bytes) {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits.match(/.{1,5}/g).map((five) => BASE32[Number.parseInt(five.padEnd(5, '0'), 2)]).join('');
}

export function varint(number) {
  const out = [];
  let rest = BigInt(number);
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  return Buffer.from([...out, Number(rest)]);
}

/** A protobuf field of bytes, or of a number. */
export function field(number, value) {
  if (typeof value === 'number' || typeof value === 'bigint') return Buffer.concat([varint(number << 3), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes]);
}

function cborHead(major, argument) {
  const head = Buffer.alloc(9);
  head[0] = (major << 5) | 27;
  head.writeBigUInt64BE(BigInt(argument), 1);
  return argument < 24 ? Buffer.from([(major << 5) | Number(argument)]) : head;
}

/** DAG-CBOR of numbers, bytes, texts and plain objects. Numbers are written long, which every reader takes. */
export function cbor(value) {
  if (typeof value === 'number' || typeof value === 'bigint') return cborHead(0, value);
  if (typeof value === 'string') return Buffer.concat([cborHead(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([cborHead(2, value.length), value]);
  const entries = Object.entries(value);
  return Buffer.concat([cborHead(5, entries.length), ...entries.flatMap(([key, each]) => [cbor(key), cbor(each)])]);
}

function block(codec, bytes) {
  const binary = Buffer.concat([Buffer.from([1, codec, 0x12, 32]), createHash('sha256').update(bytes).digest()]);
  return { bytes: Buffer.from(bytes), binary, cid: `b${toBase32(binary)}`, size: bytes.length };
}

export const raw = (bytes) => block(0x55, bytes);

/** A plain directory of `[name, block]`. */
export function directory(entries, type = 1) {
  const sorted = [...entries].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const links = sorted.map(([name, { binary, size }]) => field(2, Buffer.concat([field(1, binary), field(2, name), field(3, size)])));
  return block(0x70, Buffer.concat([...links, field(1, field(1, type))]));
}

/** The name in base 36 and the private key of a new station. */
export function newKey() {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const bytes = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const cid = Buffer.concat([Buffer.from([1, 0x72, 0, 36, 8, 1, 0x12, 32]), bytes]);
  return { privateKey, publicKey: bytes, name: `k${BigInt(`0x${cid.toString('hex')}`).toString(36)}` };
}

/** An IPNS record; `change` replaces fields of the signed data before (`data`) or after (`entry`) the signature. */
export function record(key, { root, sequence, eol, data = {}, entry = [] }) {
  const text = new Date(eol).toISOString().replace('Z', '123456Z');
  const bytes = cbor({ TTL: 60_000_000_000, Value: Buffer.from(`/ipfs/${root}`), Sequence: sequence, Validity: Buffer.from(text), ValidityType: 0, ...data });
  const signature = sign(null, Buffer.concat([Buffer.from('ipns-signature:'), bytes]), key.privateKey);
  return Buffer.concat([field(8, signature), field(9, bytes), ...entry]);
}

/** The bytes of segment n of a rendition. */
export const media = (rendition, n) => Buffer.from(`${rendition} ${n} `.repeat(50));
export const INIT = Buffer.from('init');

/** A station with segments `from` up to `to` in its index, lead and window alike. */
export class SignedStation {
  constructor({ from = 100, to = 150, renditions = ['lofi', 'hifi'] } = {}) {
    Object.assign(this, { key: newKey(), from, to, renditions, sequence: 1_700_000_000, blocks: new Map(), eol: Date.now() + 86_400_000 });
    this.publish();
  }

  get name() {
    return this.key.name;
  }

  keep(made) {
    this.blocks.set(made.cid, made.bytes);
    return made;
  }

  file(bytes) {
    const { cid, size } = raw(bytes);
    return { cid, size };
  }

  group(k) {
    const numbers = Array.from({ length: 16 }, (_, at) => k * 16 + at).filter((n) => n >= this.from && n <= this.to);
    return {
      target_duration: 4,
      playlist_segments: 16,
      segment_samples: SEGMENT_SAMPLES,
      renditions: this.renditions.map((name) => ({ name, init: this.file(INIT) })),
      segments: numbers.map((n) => ({
        n,
        unix_ms: n * 3_840,
        program_date_time_ms: n * 3_840 - 43,
        samples: SEGMENT_SAMPLES,
        discontinuity: false,
        discontinuity_sequence: 2,
        media: this.renditions.map((name) => this.file(media(name, n))),
        now_playing: null,
        later: 'unknown fields are ignored',
      })),
    };
  }

  /** Signs what is there now under the next sequence; `index: false` is a station from before there was one. */
  publish({ index = true } = {}) {
    this.sequence += 1;
    const entries = [
      ['stream.m3u8', this.keep(raw(Buffer.from('#EXTM3U\n')))],
      ['station.json', this.keep(raw(Buffer.from(JSON.stringify({ name: 'signed' }))))],
    ];
    if (index) {
      const numbers = [];
      for (let k = Math.floor(this.from / 16); k <= Math.floor(this.to / 16); k += 1) numbers.push(k);
      const groups = numbers.map((k) => [`${k}.json`, this.keep(raw(Buffer.from(JSON.stringify(this.group(k)))))]);
      entries.push(['index', this.keep(directory(groups))]);
    }
    this.root = this.keep(directory(entries)).cid;
    this.record = this.sign();
    return this;
  }

  sign(changes = {}) {
    return record(this.key, { root: this.root, sequence: this.sequence, eol: this.eol, ...changes });
  }
}
