// DAG-CBOR, as much as the signed part of an IPNS record needs: no links, no fractions. Pure.

const MAX_DEPTH = 8;

export class CborError extends Error {}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count) {
    if (count > this.bytes.length - this.at) throw new CborError('it is cut short');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** `[major type, argument]`; indefinite lengths are not allowed. */
  head() {
    const [first] = this.take(1);
    const [major, short] = [first >> 5, first & 31];
    if (short < 24) return [major, BigInt(short)];
    if (short > 27) throw new CborError('a length is indefinite');
    return [major, this.take(1 << (short - 24)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)];
  }

  count(argument) {
    if (argument > BigInt(this.bytes.length)) throw new CborError('a length is beyond its end');
    return Number(argument);
  }

  value(depth = 0) {
    if (depth > MAX_DEPTH) throw new CborError('it is nested too deep');
    const [major, argument] = this.head();
    switch (major) {
      case 0: return argument;
      case 1: return -1n - argument;
      case 2: return this.take(this.count(argument)).slice();
      case 3: return new TextDecoder('utf-8', { fatal: true }).decode(this.take(this.count(argument)));
      case 4: return Array.from({ length: this.count(argument) }, () => this.value(depth + 1));
      case 5: return this.map(this.count(argument), depth);
      default: return this.simple(major, argument);
    }
  }

  map(count, depth) {
    const found = new Map();
    for (let n = 0; n < count; n += 1) {
      const key = this.value(depth + 1);
      if (typeof key !== 'string' || found.has(key)) throw new CborError('a key is no text, or comes twice');
      found.set(key, this.value(depth + 1));
    }
    return found;
  }

  simple(major, argument) {
    const known = new Map([[20n, false], [21n, true], [22n, null]]);
    if (major !== 7 || !known.has(argument)) throw new CborError('it holds a value of a kind that is not read');
    return known.get(argument);
  }
}

/** One value, and nothing behind it: BigInt, Uint8Array, string, array, Map, boolean or null. */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new CborError('something stands behind it');
  return value;
}
