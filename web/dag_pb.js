// UnixFS directories in DAG-PB (DAG-PB and UnixFS specifications). Pure.

import { CidError, readCid } from './cid.js';
import { ProtobufError, fields } from './protobuf.js';

/** UnixFS `Data.Type` of a plain directory. */
const DIRECTORY = 1n;

export class DirectoryError extends Error {}

function link(bytes) {
  const found = { name: '', cid: null };
  for (const [number, value] of fields(bytes)) {
    if (number === 1) found.cid = readCid(value);
    if (number === 2) found.name = new TextDecoder('utf-8', { fatal: true }).decode(value);
  }
  if (!found.cid) throw new DirectoryError('a link leads nowhere');
  return found;
}

function isDirectory(data) {
  for (const [number, value] of fields(data)) {
    if (number === 1) return value === DIRECTORY;
  }
  return false;
}

/** The entries of a plain directory, CIDs by their names. A sharded one is refused. */
export function directory(block) {
  const found = new Map();
  let plain = false;
  try {
    for (const [number, value] of fields(block)) {
      if (number === 1) plain = isDirectory(value);
      if (number !== 2) continue;
      const { name, cid } = link(value);
      if (found.has(name)) throw new DirectoryError(`${name} comes twice`);
      found.set(name, cid);
    }
  } catch (cause) {
    if (cause instanceof DirectoryError) throw cause;
    if (cause instanceof ProtobufError || cause instanceof CidError || cause instanceof TypeError) {
      throw new DirectoryError(cause.message, { cause });
    }
    throw cause;
  }
  if (!plain) throw new DirectoryError('it is no plain directory');
  return found;
}
