// The index of the stream tree: `index/<k>.json` names what the segments of group k are made of. Pure.

import { RAW, parseCid } from './cid.js';

export const SEGMENTS_PER_GROUP = 16;
/** Bounds of a group, as every reader has them. */
export const MAX_GROUP_BYTES = 1024 * 1024;
const MAX_RENDITIONS = 16;
/** Bounds a file that the index names: a segment of the best rendition is some 100 kB. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;
const SAMPLE_RATE = 48_000;

export class IndexError extends Error {}

function need(condition, words) {
  if (!condition) throw new IndexError(words);
}

/** The group that segment n belongs to. */
export function groupOf(n) {
  return Math.floor(n / SEGMENTS_PER_GROUP);
}

function count(value, name, most = Number.MAX_SAFE_INTEGER) {
  need(Number.isSafeInteger(value) && value >= 0 && value <= most, `${name} is no such number`);
  return value;
}

function file(value) {
  const cid = parseCid(value?.cid);
  need(cid.codec === RAW, 'a file is more than one block');
  return { cid, size: count(value.size, 'size', MAX_FILE_BYTES) };
}

function rendition(value) {
  need(typeof value?.name === 'string' && /^[^/\\]{1,64}$/.test(value.name), 'a rendition has no name');
  return { name: value.name, init: file(value.init) };
}

function segment(value, k, renditions) {
  const n = count(value?.n, 'n');
  need(groupOf(n) === k, `segment ${n} belongs to another group`);
  need(Array.isArray(value.media) && value.media.length === renditions.length, `segment ${n} is not there in every rendition`);
  const date = value.program_date_time_ms;
  need(Number.isSafeInteger(date) && Math.abs(date) < 8.64e15, 'program_date_time_ms is no date');
  return {
    n,
    date,
    samples: count(value.samples, 'samples', SAMPLE_RATE * 3600),
    discontinuity: value.discontinuity === true,
    discontinuitySequence: count(value.discontinuity_sequence, 'discontinuity_sequence'),
    media: new Map(renditions.map(({ name }, at) => [name, file(value.media[at])])),
  };
}

/**
 * Group k: `{targetDuration, playlistSegments, inits, segments}`. `inits` maps renditions to files, `segments` numbers to
 * segments, whose `media` maps renditions to files; a file is `{cid, size}`. Throws IndexError for what breaks the format.
 */
export function readGroup(k, bytes) {
  need(bytes.length <= MAX_GROUP_BYTES, 'it is larger than 1 MiB');
  try {
    const value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    need(Array.isArray(value?.renditions) && value.renditions.length <= MAX_RENDITIONS, 'it has no list of renditions');
    need(Array.isArray(value.segments) && value.segments.length <= SEGMENTS_PER_GROUP, 'it has no list of segments');
    const renditions = value.renditions.map(rendition);
    const segments = value.segments.map((each) => segment(each, k, renditions));
    return {
      targetDuration: count(value.target_duration, 'target_duration', 3600),
      playlistSegments: count(value.playlist_segments, 'playlist_segments', 100_000),
      inits: new Map(renditions.map(({ name, init }) => [name, init])),
      segments: new Map(segments.map((each) => [each.n, each])),
    };
  } catch (cause) {
    if (cause instanceof IndexError) throw cause;
    throw new IndexError(cause.message, { cause });
  }
}

/** Samples as seconds with six decimals, cut and not rounded. */
function seconds(samples) {
  const micros = Math.floor((samples * 1_000_000) / SAMPLE_RATE);
  return `${Math.floor(micros / 1_000_000)}.${String(micros % 1_000_000).padStart(6, '0')}`;
}

/** The media playlist of these segments, oldest first and without a gap, as the station writes it. */
export function mediaPlaylist(targetDuration, segments) {
  const lines = [
    '#EXTM3U',
    '#EXT-X-VERSION:7',
    `#EXT-X-TARGETDURATION:${targetDuration}`,
    `#EXT-X-MEDIA-SEQUENCE:${segments[0].n}`,
    `#EXT-X-DISCONTINUITY-SEQUENCE:${segments[0].discontinuitySequence}`,
    '#EXT-X-INDEPENDENT-SEGMENTS',
    '#EXT-X-MAP:URI="init.mp4"',
  ];
  for (const { n, date, samples, discontinuity } of segments) {
    if (discontinuity) lines.push('#EXT-X-DISCONTINUITY');
    lines.push(`#EXT-X-PROGRAM-DATE-TIME:${new Date(date).toISOString()}`, `#EXTINF:${seconds(samples)},`, `${n}.m4s`);
  }
  return `${lines.join('\n')}\n`;
}

/** The number of the last segment that a media playlist lists, or null. */
export function newestOf(playlist) {
  const numbers = [...playlist.matchAll(/^(\d{1,15})\.m4s\s*$/gm)];
  return numbers.length ? Number(numbers.at(-1)[1]) : null;
}
