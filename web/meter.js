// The sound as it is heard, for the picture: its wave and its loudness. Never in the way of the audio itself.

const SAMPLES = 1024;

export class Meter {
  constructor(audio) {
    this.audio = audio;
    this.wave = new Float32Array(SAMPLES);
    audio.addEventListener('playing', () => this.listen());
  }

  /** A copy of the audio is analysed where the browser gives one (Chromium); elsewhere the level stays 0. */
  listen() {
    const Context = globalThis.AudioContext;
    if (!this.audio.captureStream || !Context) return;
    try {
      this.context ??= new Context();
      this.context.resume();
      const stream = this.audio.captureStream();
      const track = stream.getAudioTracks()[0];
      if (!track || track === this.track) return;
      this.track = track;
      this.source?.disconnect();
      this.analyser ??= new AnalyserNode(this.context, { fftSize: SAMPLES });
      this.source = this.context.createMediaStreamSource(new MediaStream([track]));
      this.source.connect(this.analyser);
    } catch {
      this.analyser = undefined;
    }
  }

  get works() {
    return this.analyser !== undefined;
  }

  /** Root mean square of the last 1,024 samples, full scale being 1. Fills `wave`. */
  level() {
    if (!this.analyser) return 0;
    this.analyser.getFloatTimeDomainData(this.wave);
    let sum = 0;
    for (const sample of this.wave) sum += sample * sample;
    return Math.sqrt(sum / SAMPLES);
  }
}
