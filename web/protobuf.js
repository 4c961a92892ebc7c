// The wire format of Protocol Buffers, as much as IPNS records and DAG-PB need. Pure.

const VARINT = 0;
const LENGTH = 2;

export class ProtobufError extends Error {}

/** `[value, next]`: a varint of 64 bits at most as a BigInt, and where it ends. */
function varint(bytes, at) {
  let value = 0n;
  for (let shift = 0n; shift < 64n; shift += 7n) {
    if (at >= bytes.length) throw new ProtobufError('a number is cut short');
    const byte = bytes[at++];
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return [BigInt.asUintN(64, value), at];
  }
  throw new ProtobufError('a number is longer than 64 bits');
}

/** Every field as `[number, value]`: a BigInt, or a view of the bytes. */
export function* fields(bytes) {
  let at = 0;
  while (at < bytes.length) {
    let tag;
    [tag, at] = varint(bytes, at);
    const [number, kind] = [Number(tag >> 3n), Number(tag & 7n)];
    let value;
    [value, at] = kind === VARINT || kind === LENGTH ? varint(bytes, at) : [null, at];
    if (value === null) throw new ProtobufError(`fields of wire type ${kind} are not read`);
    if (kind === LENGTH) {
      if (value > BigInt(bytes.length - at)) throw new ProtobufError('a field is cut short');
      const end = at + Number(value);
      value = bytes.subarray(at, end);
      at = end;
    }
    yield [number, value];
  }
}
