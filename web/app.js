// The page: puts player, station and picture together, in words and for every hand.

import { Feed } from './feed.js';
import * as hashing from './hashing.js';
import { Meter } from './meter.js';
import { Player } from './player.js';
import { Provenance } from './provenance.js';
import { Scene } from './scene.js';
import { Sources } from './sources.js';
import { Station } from './station.js';
import { get } from './transfer.js';

const LONG_TITLE = 44;
const $ = (id) => document.getElementById(id);
const audio = $('audio');
const stored = {
  get: (key) => { try { return localStorage.getItem(`skywave.${key}`); } catch { return null; } },
  set: (key, value) => { try { localStorage.setItem(`skywave.${key}`, value); } catch { /* private window */ } },
};
const shown = { nowPlaying: '', renditions: '', chosen: stored.get('rendition') ?? 'auto', spoken: '', peers: '', tagged: false };
let news = { info: {}, reachable: null };

const meter = new Meter(audio);
const scene = new Scene($('scene'), meter);
/** The station that the address of the page names, `#k51...`: no other is played then. */
const wanted = /^#(k[0-9a-z]{40,})$/.exec(location.hash)?.[1] ?? null;
const sources = new Sources(new URL(location.origin));
const feed = new Feed({ sources, strict: wanted !== null, get, hashing, on: { changed: () => showProvenance() } });
const provenance = new Provenance(feed, $('proof'), $('dropped'));
const player = new Player(audio, '/live/stream.m3u8', feed, {
  state: () => showState(),
  renditions: (list) => showRenditions(list),
  playing: (name) => showPlaying(name),
  nowPlaying: (track) => {
    shown.tagged = true;
    showNowPlaying(track);
  },
  arrived: () => scene.arrived(),
});
const station = new Station(() => feed.station(), (latest) => {
  news = latest;
  meet();
  showStation();
});

/** Who the station is, and which relays it has. */
function meet() {
  const { info } = news;
  feed.name(wanted ?? info.ipns ?? null);
  if (!wanted && info.ipns) {
    const before = stored.get('ipns');
    if (before && before !== info.ipns) shown.changed = true;
    stored.set('ipns', info.ipns);
  }
  sources.update(info);
  if (player.engine?.checks) feed.measure();
}

function showProvenance() {
  provenance.show(player.engine ?? null);
  $('another').hidden = !shown.changed;
}

/** Why nothing can be heard from the station itself, or null when it is on the air. */
function offAir() {
  if (news.reachable === false) return 'it does not answer';
  if (news.info.on_air === false) return 'it is getting ready';
  return null;
}

function sentence() {
  const reason = offAir();
  switch (player.state) {
    case 'connecting': return 'Connecting';
    case 'playing': return 'On air';
    case 'bridging': return 'On air, playing from the buffer while reconnecting';
    case 'waiting': return 'Waiting for the stream';
    case 'retrying': return `The station is off the air: ${reason ?? player.reason}. Reconnecting in ${player.wait} s`;
    case 'refused': return 'The browser held the sound back. Press play once more';
    case 'unsupported': return player.reason || 'This browser cannot play the stream. Use the address below in another player';
    default:
      if (reason) return `The station is off the air: ${reason}`;
      return news.reachable ? 'On air. Press play and listen' : 'Looking for the station';
  }
}

/** Screen readers hear each state once, not every second of a countdown. */
function announce(words) {
  const steady = words.replace(/\d+ s$/, 'a moment');
  if (steady === shown.spoken) return;
  shown.spoken = steady;
  $('announcement').textContent = steady;
}

function showState() {
  const words = sentence();
  const off = player.state === 'retrying' || (!player.wanted && offAir() !== null);
  const live = player.state === 'playing' || player.state === 'bridging' || (!off && news.info.on_air === true);
  document.body.dataset.state = player.state;
  document.body.classList.toggle('off', off);
  document.body.classList.toggle('live', live);
  $('lamp').textContent = off ? 'Off air' : 'On air';
  $('state').textContent = words;
  $('play').setAttribute('aria-label', player.wanted ? 'Pause' : 'Play');
  $('play').disabled = player.state === 'unsupported';
  announce(words);
  if (scene.state !== player.state) scene.set(player.state);
  if ('mediaSession' in navigator) navigator.mediaSession.playbackState = player.wanted ? 'playing' : 'paused';
  showFigures();
}

function showStation() {
  const { info } = news;
  const name = info.name || 'Skywave';
  $('name').textContent = name;
  showTitle();
  if (info.software) $('software').textContent = info.software.replace('skywave/', 'Skywave ');
  const hls = new URL(info.hls || '/live/stream.m3u8', location.href).href;
  $('hls').textContent = hls;
  $('hls').href = hls;
  const ipns = wanted ?? info.ipns;
  $('row-ipns').hidden = !ipns;
  if (ipns) $('ipns').textContent = `/ipns/${ipns}`;
  showProvenance();
  showPeers(info.addresses ?? []);
  if (!shown.renditions && info.renditions?.length) showRenditions(info.renditions);
  if (!player.isAudible()) shown.tagged = false;
  if (!shown.tagged) showNowPlaying(info.now_playing ?? null);
  showState();
}

function showPeers(addresses) {
  $('row-peers').hidden = addresses.length === 0;
  if (addresses.join() === shown.peers) return;
  shown.peers = addresses.join();
  $('peers').replaceChildren(...addresses.map((address, n) => {
    const row = document.createElement('div');
    row.className = 'address';
    const code = Object.assign(document.createElement('code'), { className: 'text', id: `peer-${n}` });
    code.textContent = `ipfs swarm connect ${address}`;
    const copy = Object.assign(document.createElement('button'), { className: 'copy', type: 'button' });
    copy.textContent = 'Copy';
    copy.dataset.copies = code.id;
    copy.setAttribute('aria-describedby', code.id);
    row.append(code, copy);
    return row;
  }));
}

/** Off the air, the title stays empty rather than wrong. */
function showNowPlaying(track) {
  const key = JSON.stringify([track?.title, track?.artist, track?.album]);
  if (key === shown.nowPlaying) return;
  shown.nowPlaying = key;
  shown.track = track;
  $('title').textContent = track?.title || track?.artist || '';
  $('title').classList.toggle('long', $('title').textContent.length > LONG_TITLE);
  const credit = [track?.title ? track.artist : '', track?.album].filter(Boolean).join(' · ');
  $('credit').textContent = credit;
  showTitle();
}

function showTitle() {
  const name = news.info.name || 'Skywave';
  const { track } = shown;
  document.title = player.wanted && track?.title ? `${track.title} · ${name}` : name;
  if (!('mediaSession' in navigator) || !('MediaMetadata' in globalThis)) return;
  navigator.mediaSession.metadata = new MediaMetadata({
    title: track?.title || name,
    artist: track?.artist || name,
    album: track?.album || name,
    artwork: [{ src: '/assets/icon.svg', type: 'image/svg+xml', sizes: 'any' }],
  });
}

function showRenditions(list) {
  const sorted = [...list].sort((a, b) => a.bandwidth - b.bandwidth);
  const key = JSON.stringify(sorted.map(({ name, bandwidth }) => [name, bandwidth]));
  if (key === shown.renditions) return;
  shown.renditions = key;
  if (!sorted.some(({ name }) => name === shown.chosen)) shown.chosen = 'auto';
  const figure = ({ bandwidth }) => `${Math.round(bandwidth / 1000)} kb/s`;
  const choices = [['auto', 'Auto', 'adapts'], ...sorted.map((r) => [r.name, r.name, figure(r)])];
  $('choices').replaceChildren(...choices.map(([value, word, note]) => {
    const label = document.createElement('label');
    const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'rendition', value });
    input.checked = value === shown.chosen;
    const spans = [word, note].map((text) => Object.assign(document.createElement('span'), { textContent: text }));
    label.append(input, ...spans);
    return label;
  }));
  $('renditions').hidden = sorted.length < 2;
  player.choose(shown.chosen);
  showPlaying(player.engine?.playing ?? null);
}

/** The needle stands over the rendition that is heard now, whatever is chosen. */
function showPlaying(name) {
  shown.playing = name;
  const label = name && $('choices').querySelector(`input[value="${CSS.escape(name)}"]`)?.parentElement;
  $('needle').hidden = !label;
  for (const each of $('choices').children) each.classList.toggle('heard', each === label);
  if (label) $('needle').style.left = `${label.offsetLeft + label.offsetWidth / 2}px`;
  showFigures();
}

function showFigures() {
  if (!player.wanted || !player.isAudible()) return void ($('figures').textContent = '');
  const { behind, ahead, by } = player.engine.figures();
  const words = [shown.playing && `Playing ${shown.playing}`];
  if (behind > 0) words.push(`${Math.round(behind)} s behind the studio`);
  words.push(`${Math.round(ahead)} s in hand`, by);
  $('figures').textContent = words.filter(Boolean).join(' · ');
}

/** The clipboard exists on https and localhost only; elsewhere the old command, or at least a selection. */
async function copy(button) {
  const target = $(button.dataset.copies);
  let done = true;
  try {
    await navigator.clipboard.writeText(target.textContent);
  } catch {
    getSelection().selectAllChildren(target);
    done = document.execCommand('copy');
  }
  const words = done ? 'Copied' : 'Selected';
  button.textContent = words;
  shown.spoken = '';
  announce(done ? 'Copied' : 'Selected. Copy it with the keyboard');
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
}

function setVolume(value) {
  $('volume').value = value;
  $('volume-figure').textContent = value;
  $('volume').style.setProperty('--filled', `${value}%`);
  audio.volume = (value / 100) ** 2;
}

function listen() {
  $('play').addEventListener('click', () => player.toggle());
  $('volume').addEventListener('input', ({ target }) => {
    setVolume(target.value);
    stored.set('volume', target.value);
  });
  $('choices').addEventListener('change', ({ target }) => {
    shown.chosen = target.value;
    stored.set('rendition', target.value);
    player.choose(target.value);
  });
  document.addEventListener('click', ({ target }) => {
    const button = target.closest('[data-copies]');
    if (button) copy(button);
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== ' ' || event.target !== document.body) return;
    event.preventDefault();
    player.toggle();
  });
  addEventListener('resize', () => showPlaying(shown.playing));
  if (!('mediaSession' in navigator)) return;
  navigator.mediaSession.setActionHandler('play', () => player.play());
  navigator.mediaSession.setActionHandler('pause', () => player.pause());
}

setVolume(Number(stored.get('volume') ?? 100));
listen();
setInterval(showFigures, 1000);
const met = station.start();
await player.prepare();
await met;
if (player.engine?.checks) feed.measure();
else if (wanted && news.info.ipns !== wanted) player.refuse('This server is another station than the one asked for');
addEventListener('hashchange', () => location.reload());
player.choose(shown.chosen);
showProvenance();
showState();

/** For tests and for the curious. */
globalThis.skywave = {
  get hls() { return player.engine?.hls; },
  get playing() { return shown.playing; },
  get state() { return player.state; },
  errors: player.errors,
  level: () => meter.level(),
  audio,
  player,
  feed,
};
document.documentElement.dataset.ready = '';
