// CIDs of version 1 over SHA-256, and IPNS names of Ed25519 keys (CID and IPNS specifications). Pure.

export const RAW = 0x55;
export const DAG_PB = 0x70;
const LIBP2P_KEY = 0x72;
const SHA2_256 = 0x12;
const IDENTITY = 0x00;
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
/** Bounds the work on a foreign text. */
const MAX_TEXT = 128;
/** Protobuf `PublicKey` of an Ed25519 key: Type = 1, then 32 bytes of Data. */
const ED25519_KEY = [0x08, 0x01, 0x12, 0x20];

export class CidError extends Error {}

function base32Decode(text) {
  const out = new Uint8Array(Math.floor((text.length * 5) / 8));
  let [bits, held, at] = [0, 0, 0];
  for (const character of text) {
    const digit = BASE32.indexOf(character);
    if (digit < 0) throw new CidError(`${character} is no digit of base 32`);
    held = ((held << 5) | digit) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    out[at++] = (held >> bits) & 0xff;
  }
  if (bits > 4 || held & ((1 << bits) - 1)) throw new CidError('it has bits left over');
  return out;
}

function base32Encode(bytes) {
  let [text, bits, held] = ['', 0, 0];
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += BASE32[(held >> (bits - 5)) & 31];
  }
  return bits ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

function base36Decode(text) {
  const out = [];
  for (const character of text) {
    let carry = '0123456789abcdefghijklmnopqrstuvwxyz'.indexOf(character);
    if (carry < 0) throw new CidError(`${character} is no digit of base 36`);
    for (let at = 0; at < out.length; at += 1) {
      carry += out[at] * 36;
      out[at] = carry & 0xff;
      carry >>= 8;
    }
    for (; carry > 0; carry >>= 8) out.push(carry & 0xff);
  }
  const zeros = /^0*/.exec(text)[0].length;
  return Uint8Array.from([...new Array(zeros).fill(0), ...out.reverse()]);
}

/** `{codec, digest, text}` of the binary form; every number of it fits in one byte here. */
export function readCid(bytes) {
  const [version, codec, code, length] = bytes;
  if (version !== 1 || (codec !== RAW && codec !== DAG_PB)) throw new CidError('it is no CID of raw or dag-pb');
  if (code !== SHA2_256 || length !== 32 || bytes.length !== 36) throw new CidError('its hash is not SHA-256');
  return { codec, digest: bytes.slice(4), text: `b${base32Encode(bytes)}` };
}

/** The same of the text form in base 32. */
export function parseCid(text) {
  if (typeof text !== 'string' || text[0] !== 'b' || text.length > MAX_TEXT) throw new CidError('it is no CID in base 32');
  return readCid(base32Decode(text.slice(1)));
}

/** The 32 bytes of the Ed25519 key that an IPNS name (`k51...`) stands for. */
export function keyOfName(name) {
  if (typeof name !== 'string' || name[0] !== 'k' || name.length > MAX_TEXT) throw new CidError('it is no IPNS name in base 36');
  const bytes = base36Decode(name.slice(1));
  const expected = [1, LIBP2P_KEY, IDENTITY, 36, ...ED25519_KEY];
  if (bytes.length !== 40 || expected.some((byte, at) => bytes[at] !== byte)) throw new CidError('it is no name of an Ed25519 key');
  return bytes.slice(8);
}

export function sameBytes(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
