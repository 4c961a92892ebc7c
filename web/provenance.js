// Says where the sound comes from, whether it is checked, and who is not asked any more.

const shortName = (name) => `${name.slice(0, 9)}…${name.slice(-6)}`;

/** What is checked, in words. `engine` is null before there is one. */
export function proofInWords({ engine, feed, host }) {
  if (!engine) return '';
  if (!engine.checks) {
    return 'Not verified: this browser plays the stream by itself, so the page cannot compare it with what the station signed.';
  }
  if (feed.unproven === undefined) return '';
  if (feed.unproven !== null) return `Not verified: ${feed.unproven}.`;
  const from = feed.sources.current.own ? '' : `, and comes from the relay ${host(feed.sources.current.base)}`;
  return `Every segment is checked against the signature of ${shortName(feed.chain.name)} before it plays${from}.`;
}

/** One sentence for each server that was dropped. */
export function dropsInWords(liars, host) {
  return liars.map(({ base, lied }) => `${host(base)} is not asked any more: it sent ${lied}.`);
}

export class Provenance {
  /** `proof` and `dropped` are the elements for it; `dropped` is a live region, so that a screen reader tells of it. */
  constructor(feed, proof, dropped) {
    Object.assign(this, { feed, proof, dropped, shown: '' });
  }

  show(engine) {
    const host = (base) => new URL(base).host;
    const proof = proofInWords({ engine, feed: this.feed, host });
    if (this.proof.textContent !== proof) this.proof.textContent = proof;
    const drops = dropsInWords(this.feed.sources.all().filter((source) => source.lied), host);
    if (drops.join() === this.shown) return;
    this.shown = drops.join();
    this.dropped.replaceChildren(...drops.map((words) => Object.assign(document.createElement('p'), { textContent: words })));
  }
}
