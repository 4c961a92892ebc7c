// One GET, with bounds on its size and on the server's silence.

export class TransferError extends Error {
  /** `code`: the HTTP status; 0 where there was none. */
  constructor(words, code = 0) {
    super(words);
    this.code = code;
  }
}

/** A body that is longer than what was asked for can be. */
export class TooLong extends TransferError {}

async function body(response, { limit, heard }) {
  const reader = response.body.getReader();
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) {
      reader.cancel().catch(() => {});
      throw new TooLong(`more than ${limit} bytes`, response.status);
    }
    parts.push(value);
    heard(length);
  }
  const bytes = new Uint8Array(length);
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  return bytes;
}

/**
 * `{bytes, firstMs, totalMs}` of a URL: the whole body, when its head was there, and when all of it. Throws TransferError for
 * anything but status 200, and for `patience` milliseconds of silence.
 *
 * `on`: first(), progress(bytes so far).
 */
export async function get(url, { limit, patience, signal, cache = 'default', on = {} }) {
  const abort = new AbortController();
  const stop = () => abort.abort();
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  let silent = false;
  let timer;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      silent = true;
      stop();
    }, patience);
  };
  const started = performance.now();
  listen();
  try {
    const response = await fetch(url, { cache, signal: abort.signal, referrerPolicy: 'no-referrer' });
    const firstMs = performance.now() - started;
    listen();
    if (response.status !== 200) {
      response.body?.cancel().catch(() => {});
      throw new TransferError(`status ${response.status}`, response.status);
    }
    on.first?.();
    const heard = (length) => {
      listen();
      on.progress?.(length);
    };
    const bytes = await body(response, { limit, heard });
    return { bytes, firstMs, totalMs: performance.now() - started };
  } catch (cause) {
    if (cause instanceof TransferError) throw cause;
    throw new TransferError(silent ? `silent for ${patience} ms` : cause.message);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}
