// The picture: a mast, the curve of the earth, the ionosphere, and the station's wave bouncing between
// them until it lands on the play button. While the station plays, the wave is the sound itself.

const SVG = 'http://www.w3.org/2000/svg';
/** Height of the play button's centre above the picture's lower edge, as in style.css. */
const HORIZON = 60;
const MAST = 46;
const STEP = 4;
const STARS = 70;
const FLIGHT_MS = 1400;
const AUDIBLE = new Set(['playing', 'bridging']);

function node(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

export class Scene {
  constructor(svg, meter) {
    Object.assign(this, { svg, meter, state: 'idle', loudness: 0, flights: [], frame: 0 });
    this.still = matchMedia('(prefers-reduced-motion: reduce)');
    this.draw();
    new ResizeObserver(() => this.layOut()).observe(svg);
    this.still.addEventListener('change', () => this.set(this.state));
    document.addEventListener('visibilitychange', () => this.set(this.state));
  }

  draw() {
    const { svg } = this;
    const defs = node('defs', {}, svg);
    this.fade = node('linearGradient', { id: 'fade', gradientUnits: 'userSpaceOnUse' }, defs);
    this.stops = [0, 1, 1, 0].map((opacity) => node('stop', { class: 'signal-stop', 'stop-opacity': opacity }, this.fade));
    this.stars = node('g', { class: 'stars' }, svg);
    this.layers = [0, 1, 2].map((n) => node('path', { class: `layer layer-${n}` }, svg));
    this.glows = [node('ellipse', { class: 'glow' }, svg), node('ellipse', { class: 'glow' }, svg)];
    this.halo = node('path', { class: 'wave wave-halo', stroke: 'url(#fade)' }, svg);
    this.wave = node('path', { class: 'wave', stroke: 'url(#fade)' }, svg);
    this.dots = node('g', { class: 'dots' }, svg);
    this.earth = node('path', { class: 'earth' }, svg);
    this.mast = node('path', { class: 'mast' }, svg);
  }

  layOut() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    Object.assign(this, { width, height, centre: width / 2 });
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.hop = Math.max(132, Math.min(width * 0.36, 300));
    this.mastX = this.centre - this.hop;
    this.apex = Math.min(this.horizon(this.centre) - 104, Math.max(this.hop * 0.78, 165));
    this.layOutStops();
    this.layOutGround();
    this.layOutSky();
    this.render(performance.now());
  }

  layOutStops() {
    this.fade.setAttribute('x2', this.width);
    const at = (x) => Math.min(1, Math.max(0, x / this.width));
    const ends = [this.mastX - this.hop, this.mastX, this.centre + this.hop * 0.1, this.centre + this.hop * 1.7];
    ends.forEach((x, n) => this.stops[n].setAttribute('offset', at(x)));
    this.stops[0].setAttribute('stop-opacity', ends[0] < 0 ? 0.25 : 0);
  }

  layOutGround() {
    const { width, height, mastX } = this;
    const edge = this.horizon(0);
    const control = 2 * this.horizon(this.centre) - edge;
    this.earth.setAttribute('d', `M0 ${edge}Q${this.centre} ${control} ${width} ${edge}V${height + 1}H0z`);
    const foot = this.horizon(mastX) + 1;
    const top = foot - MAST;
    this.mast.setAttribute(
      'd',
      `M${mastX - 8} ${foot}L${mastX} ${top}L${mastX + 8} ${foot}` +
        `M${mastX - 6.2} ${foot - 10}L${mastX + 4.6} ${foot - 19}L${mastX - 3.2} ${foot - 28}` +
        `M${mastX + 6.2} ${foot - 10}L${mastX - 4.6} ${foot - 19}L${mastX + 3.2} ${foot - 28}`,
    );
  }

  layOutSky() {
    const { width } = this;
    this.layers.forEach((layer, n) => {
      const lift = this.apex + 14 + n * 13;
      const edge = this.horizon(0) - lift;
      const control = 2 * (this.horizon(this.centre) - lift) - edge;
      layer.setAttribute('d', `M0 ${edge}Q${this.centre} ${control} ${width} ${edge}`);
    });
    this.glows.forEach((glow, n) => {
      const x = this.centre + (n - 0.5) * this.hop;
      const size = { cx: x, cy: this.horizon(x) - this.apex - 12, rx: this.hop * 0.36, ry: 20 };
      for (const [key, value] of Object.entries(size)) glow.setAttribute(key, value);
    });
    this.stars.replaceChildren();
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    for (let n = 0; n < STARS; n += 1) {
      const place = { cx: random() * width, cy: random() ** 1.4 * this.horizon(0) * 0.9, r: 0.4 + random() * 0.8 };
      node('circle', { ...place, opacity: 0.25 + random() * 0.6 }, this.stars);
    }
  }

  /** The earth's curve: how far down the ground is at x. */
  horizon(x) {
    const drop = Math.min(34, this.width * 0.028);
    return this.height - HORIZON + drop * ((x - this.centre) / this.centre) ** 2;
  }

  /** The undisturbed path: straight off the ground, bent back by the ionosphere. */
  path(x) {
    const hops = (x - this.mastX) / this.hop;
    const within = hops - Math.floor(hops);
    const arc = 1 - Math.abs(2 * within - 1) ** 1.75;
    const feed = MAST * Math.max(0, 1 - Math.abs(hops));
    return this.horizon(x) - Math.max(arc * this.apex, feed * (1 - arc) + arc * this.apex);
  }

  /** A piece of sound, laid across each hop; nothing at the mast, at the ground or on the button. */
  shape(now) {
    const reach = Math.min(22, this.hop * 0.1);
    let d = '';
    for (let x = this.mastX - this.hop; x <= this.width + STEP; x += STEP) {
      const hops = Math.abs((x - this.mastX) / this.hop);
      const envelope = Math.sin(Math.PI * (hops % 1)) ** 0.7;
      const y = this.path(x) + this.sample(hops, now) * reach * envelope;
      d += `${d ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    }
    return d;
  }

  sample(hops, now) {
    if (this.still.matches || !AUDIBLE.has(this.state)) return 0;
    if (!this.meter.works) return 0.28 * Math.sin(hops * 26 - now / 260) * Math.sin(hops * 7 - now / 900);
    const { wave } = this.meter;
    const at = Math.floor((hops % 1) * (wave.length / 2));
    const smooth = (wave[at] + wave[at + 1] + wave[at + 2] + wave[at + 3]) / 4;
    return Math.max(-1, Math.min(1, smooth * this.gain));
  }

  render(now) {
    const level = this.meter.level();
    this.loudness += (level - this.loudness) * (level > this.loudness ? 0.3 : 0.06);
    this.gain = 0.55 / Math.max(0.08, this.loudness);
    const d = this.shape(now);
    this.wave.setAttribute('d', d);
    this.halo.setAttribute('d', d);
    const heard = this.meter.works ? Math.min(1, this.loudness * 4) : 0.5;
    const lively = AUDIBLE.has(this.state) ? heard : 0;
    this.svg.parentElement.style.setProperty('--level', this.still.matches ? 0.4 : lively.toFixed(3));
    this.fly(now);
  }

  /** A segment has come in: a spark flies from the mast to the button. */
  arrived() {
    if (this.still.matches || document.hidden || this.flights.length > 2) return;
    this.flights.push({ since: performance.now(), dot: node('circle', { class: 'dot', r: 3.5 }, this.dots) });
  }

  fly(now) {
    this.flights = this.flights.filter(({ since, dot }) => {
      const done = (now - since) / FLIGHT_MS;
      if (done >= 1) dot.remove();
      const x = this.mastX + this.hop * Math.min(1, done);
      dot.setAttribute('cx', x);
      dot.setAttribute('cy', this.path(x));
      return done < 1;
    });
  }

  set(state) {
    this.state = state;
    cancelAnimationFrame(this.request);
    if (this.width) this.render(performance.now());
    if (AUDIBLE.has(state) && !document.hidden && !this.still.matches) this.animate();
  }

  /** Every other frame is enough for the eye, and half the work for a telephone. */
  animate() {
    this.request = requestAnimationFrame((now) => {
      this.frame += 1;
      if (this.width && this.frame % 2) this.render(now);
      this.animate();
    });
  }
}
