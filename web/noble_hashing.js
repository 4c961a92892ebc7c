// The same as WebCrypto gives, from @noble/hashes and @noble/ed25519, which are in the binary beside hls.js.

import { hashes, verify } from './noble/ed25519.js';
import { sha256, sha512 } from './noble/sha2.js';

hashes.sha512 = sha512;

export { sha256 };

export function verifyEd25519(signature, message, key) {
  try {
    return verify(signature, message, key, { zip215: false });
  } catch {
    return false;
  }
}
