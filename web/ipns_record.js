// IPNS records of Ed25519 names (IPNS specification, "Record Verification"). Pure: who verifies signatures is given.

import { keyOfName, parseCid, sameBytes } from './cid.js';
import { decode } from './dag_cbor.js';
import { fields } from './protobuf.js';

/** "Record Size Limit". */
export const MAX_RECORD_BYTES = 10 * 1024;
const EOL = 0n;
const PREFIX = new TextEncoder().encode('ipns-signature:');
/** Names of `IpnsEntry`'s fields by their numbers. */
const ENTRY = [null, 'value', 'signatureV1', 'validityType', 'validity', 'sequence', 'ttl', 'pubKey', 'signatureV2', 'data'];

/** Why a record is refused: `kind` is malformed, forged, expired or unreadable; only the last may be an honest one. */
export class RecordError extends Error {
  constructor(kind, words) {
    super(words);
    this.kind = kind;
  }
}

function entry(bytes) {
  const found = {};
  for (const [number, value] of fields(bytes)) {
    const name = ENTRY[number];
    if (!name) continue;
    const isNumber = name === 'validityType' || name === 'sequence' || name === 'ttl';
    if (isNumber !== (typeof value === 'bigint')) throw new RecordError('malformed', `${name} is of the wrong kind`);
    found[name] = value;
  }
  return found;
}

/** A record without V1 fields agrees with everything; in protobuf 0 is not written. */
function agrees(found, data) {
  if (!found.signatureV1?.length && !found.value?.length) return true;
  const bytes = (name) => found[name] ?? new Uint8Array();
  return sameBytes(bytes('value'), data.get('Value'))
    && sameBytes(bytes('validity'), data.get('Validity'))
    && (found.validityType ?? 0n) === data.get('ValidityType')
    && (found.sequence ?? 0n) === data.get('Sequence')
    && (found.ttl ?? 0n) === data.get('TTL');
}

/** Milliseconds of Unix time; a date of nine decimals is one that not every browser reads. */
function expiry(data) {
  const text = new TextDecoder().decode(data.get('Validity'));
  const time = Date.parse(text.replace(/(\.\d{3})\d+/, '$1'));
  const isDate = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
  if (data.get('ValidityType') !== EOL || !isDate || Number.isNaN(time)) {
    throw new RecordError('unreadable', 'its validity is no expiry date');
  }
  return time;
}

function document(bytes) {
  const data = decode(bytes);
  const kinds = { Value: Uint8Array, Validity: Uint8Array, ValidityType: 'bigint', Sequence: 'bigint', TTL: 'bigint' };
  const fits = ([name, kind]) => (typeof kind === 'string' ? typeof data.get(name) === kind : data.get(name) instanceof kind);
  if (!(data instanceof Map) || !Object.entries(kinds).every(fits)) {
    throw new RecordError('unreadable', 'its signed data lacks a field');
  }
  return data;
}

function rootOf(data) {
  const path = new TextDecoder().decode(data.get('Value'));
  const text = /^\/ipfs\/(b[a-z2-7]+)\/?$/.exec(path)?.[1];
  if (!text) throw new RecordError('unreadable', 'it points at something else than a stream tree');
  return parseCid(text);
}

function embedsOtherKey(found, key) {
  if (!found.pubKey?.length) return false;
  return found.pubKey.length !== 36 || !sameBytes(found.pubKey.subarray(4), key);
}

async function read(key, bytes, verify) {
  const found = entry(bytes);
  if (!found.signatureV2?.length || !found.data?.length) throw new RecordError('forged', 'it has no V2 signature');
  if (embedsOtherKey(found, key)) throw new RecordError('forged', 'its key is that of another name');
  const signed = new Uint8Array(PREFIX.length + found.data.length);
  signed.set(PREFIX);
  signed.set(found.data, PREFIX.length);
  if (!(await verify(found.signatureV2, signed, key))) throw new RecordError('forged', 'its signature is not the station’s');
  const data = document(found.data);
  if (!agrees(found, data)) throw new RecordError('forged', 'its fields differ from what is signed');
  return { root: rootOf(data), sequence: data.get('Sequence'), eol: expiry(data) };
}

/**
 * `{root, sequence, eol}` of the record of `name`: the CID of the stream tree, a BigInt, milliseconds of Unix time.
 *
 * `verify(signature, message, key)` resolves to whether an Ed25519 signature is right. Throws RecordError.
 */
export async function readRecord(name, bytes, verify, nowMs) {
  if (bytes.length > MAX_RECORD_BYTES) throw new RecordError('malformed', 'it is larger than 10 KiB');
  const key = keyOfName(name);
  let record;
  try {
    record = await read(key, bytes, verify);
  } catch (cause) {
    if (cause instanceof RecordError) throw cause;
    throw new RecordError('malformed', cause.message);
  }
  if (record.eol <= nowMs) throw new RecordError('expired', 'it has expired');
  return record;
}
