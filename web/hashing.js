// SHA-256 and Ed25519: the browser's own where the page is in a secure context, @noble elsewhere.

/** What browsers keep from pages on plain http. */
const subtle = globalThis.crypto?.subtle;

/** Loaded when it is needed, which on https it mostly never is. */
let noble;
function loadNoble() {
  noble ??= import('./noble_hashing.js');
  return noble;
}

/** Resolves to the 32 bytes of the digest. */
export async function sha256(bytes) {
  if (subtle) return new Uint8Array(await subtle.digest('SHA-256', bytes));
  return (await loadNoble()).sha256(bytes);
}

/** Whether this key of 32 bytes made the signature; browsers of before 2025 have WebCrypto without Ed25519. */
export async function verifyEd25519(signature, message, key) {
  let imported = null;
  try {
    imported = await subtle?.importKey('raw', key, 'Ed25519', false, ['verify']);
  } catch {
    // Not known here, or no point of the curve: the library decides.
  }
  if (imported) return subtle.verify('Ed25519', imported, signature, message);
  return (await loadNoble()).verifyEd25519(signature, message, key);
}
