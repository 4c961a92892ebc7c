// The chain from a station's name to the hash of each segment: name, IPNS record, stream tree, index, CID.
//
// Who brings bytes, who hashes and what time it is are given, so that this runs anywhere. What comes in by
// `block(cid, limit)` must have been checked against the CID.

import { directory } from './dag_pb.js';
import { readRecord } from './ipns_record.js';
import { MAX_GROUP_BYTES, groupOf, readGroup } from './segment_index.js';

/** Bounds a directory and a playlist of the tree. */
const MAX_BLOCK_BYTES = 2 * 1024 * 1024;
/** Groups that are kept: half an hour of lead and the playlist. */
const MAX_GROUPS = 64;
/** Half an hour of lead is the longest that an honest relay, cut off from its station, can play on from an old record. */
const OLD_MS = 35 * 60 * 1000;

export class Chain {
  constructor(name, verify, now = () => Date.now()) {
    Object.assign(this, { name, verify, now, head: null, groups: new Map() });
  }

  /** Reads and verifies a record. Throws RecordError. */
  record(bytes) {
    return readRecord(this.name, bytes, this.verify, this.now());
  }

  /** newer, same, older (but good), or old: older than any honest server's. */
  compare(record) {
    if (!this.head || record.sequence > this.head.sequence) return 'newer';
    if (record.sequence === this.head.sequence) return 'same';
    return this.head.eol - record.eol > OLD_MS ? 'old' : 'older';
  }

  /** Takes a verified record and its tree for the newest; false where the tree has no index. Never goes back. */
  async adopt(record, block) {
    const links = directory(await block(record.root, MAX_BLOCK_BYTES));
    const folder = links.get('index');
    if (!folder) return false;
    const index = directory(await block(folder, MAX_BLOCK_BYTES));
    if (this.compare(record) === 'newer') this.head = { ...record, links, index };
    return true;
  }

  async group(k, block) {
    const cid = this.head?.index.get(`${k}.json`);
    if (!cid) return null;
    let group = this.groups.get(cid.text);
    group ??= readGroup(k, await block(cid, MAX_GROUP_BYTES));
    // The one used last stands last.
    this.groups.delete(cid.text);
    this.groups.set(cid.text, group);
    for (const oldest of this.groups.keys()) {
      if (this.groups.size <= MAX_GROUPS) break;
      this.groups.delete(oldest);
    }
    return group;
  }

  /** `{segment, group}` of a number; null where the newest tree does not name it. */
  async segment(n, block) {
    const group = await this.group(groupOf(n), block);
    const segment = group?.segments.get(n);
    return segment ? { segment, group } : null;
  }

  /** Whether the number is known without asking anybody. */
  knows(n) {
    const cid = this.head?.index.get(`${groupOf(n)}.json`);
    return this.groups.get(cid?.text)?.segments.has(n) ?? false;
  }

  /** `{cid, size}` of each init segment that a rendition has in the newest groups. */
  async inits(rendition, block) {
    const numbers = [...this.head?.index.keys() ?? []].map((name) => Number.parseInt(name, 10)).sort((a, b) => b - a);
    const groups = await Promise.all(numbers.slice(0, 2).map((k) => this.group(k, block)));
    return groups.map((group) => group.inits.get(rendition)).filter(Boolean);
  }

  /** The bytes of a file beside the folders, such as stream.m3u8; null where there is none. */
  async file(name, block) {
    const cid = this.head?.links.get(name);
    return cid ? block(cid, MAX_BLOCK_BYTES) : null;
  }
}
