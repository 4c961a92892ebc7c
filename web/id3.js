// Now playing out of an ID3v2.4 tag, as it travels in `emsg` boxes
// (scheme https://aomedia.org/emsg/ID3). Only the three text frames the station sends are read.

const FRAMES = { TIT2: 'title', TPE1: 'artist', TALB: 'album' };
const ENCODINGS = ['iso-8859-1', 'utf-16', 'utf-16be', 'utf-8'];

/** ID3v2.4 sizes hold seven bits in each byte (section 6.2). */
function syncsafe(bytes, at) {
  return (bytes[at] << 21) | (bytes[at + 1] << 14) | (bytes[at + 2] << 7) | bytes[at + 3];
}

function text(bytes) {
  const decoder = new TextDecoder(ENCODINGS[bytes[0]] ?? 'utf-8');
  return decoder.decode(bytes.subarray(1)).replace(/\0+$/, '').replaceAll('\0', ', ');
}

/** `{title, artist, album}` of a tag, fields that are not in it empty; null when it is no tag. */
export function nowPlayingFromId3(bytes) {
  if (bytes.length < 10 || bytes[0] !== 0x49 || bytes[1] !== 0x44 || bytes[2] !== 0x33) return null;
  const found = { title: '', artist: '', album: '' };
  const end = Math.min(bytes.length, 10 + syncsafe(bytes, 6));
  let at = 10;
  while (at + 10 <= end && bytes[at] !== 0) {
    const id = String.fromCharCode(...bytes.subarray(at, at + 4));
    const size = syncsafe(bytes, at + 4);
    const body = bytes.subarray(at + 10, Math.min(end, at + 10 + size));
    if (FRAMES[id] && body.length > 1) found[FRAMES[id]] = text(body);
    at += 10 + size;
  }
  return found.title || found.artist || found.album ? found : null;
}
