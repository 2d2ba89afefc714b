// Sound: the samples, the voices of each note, and a player that keeps time by the audio clock.

const BUFFER_RATE = 44100; // of every buffer; a voice's rate makes up for what its sample has
const LOOK_AHEAD_S = 1.5; // timers of a tab in the background fire once per second only
const LEAD_S = 0.06; // from pressing play to the first note
const FADE_S = 0.02; // short enough to be at once, long enough not to click
const TAIL_S = 1.5; // what still sounds after the last note
const SHORTEST_REST_S = 0.15; // of a held note that is worth striking again after a jump

/** The first index of an ascending array whose value is at least `value`. */
function lowerBound(array, value) {
  let low = 0;
  let high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function fromBase64(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** Turns the samples of the page into audio buffers, each when it is first needed. */
class SampleBank {
  constructor(samples) {
    this.samples = samples;
    this.buffers = new Map();
  }

  get(index) {
    if (!this.buffers.has(index)) {
      const bytes = new DataView(fromBase64(this.samples[index]).buffer);
      const length = bytes.byteLength / 2;
      const buffer = new AudioBuffer({ length, sampleRate: BUFFER_RATE, numberOfChannels: 1 });
      const channel = buffer.getChannelData(0);
      for (let i = 0; i < length; i++) channel[i] = bytes.getInt16(2 * i, true) / 32768;
      this.buffers.set(index, buffer);
    }
    return this.buffers.get(index);
  }
}

/**
 * When each note is silenced by the next one of its exclusive class, in seconds of the piece: a
 * closed hi-hat ends an open one.
 */
function findChoked(piece, voices) {
  const { start, instrument, voiceSet } = piece.notes;
  const following = new Map(); // onset of the next note, by instrument and class
  const chokedAt = [];
  for (let note = start.length - 1; note >= 0; note--) {
    for (const index of piece.voiceSets[voiceSet[note]]) {
      if (!voices[index].exclusiveClass) continue;
      const key = `${instrument[note]} ${voices[index].exclusiveClass}`;
      const next = following.get(key);
      if (next > start[note]) chokedAt[note] = next;
      following.set(key, start[note]);
    }
  }
  return chokedAt;
}

/** The audio graph of one piece in one context: voices -> panners -> instruments -> output. */
class Ensemble {
  constructor(context, piece, bank, voices) {
    this.context = context;
    this.piece = piece;
    this.bank = bank;
    this.voices = voices;
    this.output = new GainNode(context, { gain: piece.gain });
    this.instruments = piece.instruments.map(() => {
      const gain = new GainNode(context);
      gain.connect(this.output);
      return { gain, panners: new Map() };
    });
  }

  /** Sets at once who is heard; `audible` has a truth value for each instrument. */
  setAudible(audible) {
    this.instruments.forEach(({ gain }, i) => {
      gain.gain.setTargetAtTime(audible[i] ? 1 : 0, this.context.currentTime, FADE_S / 3);
    });
  }

  /**
   * Plays a note from `begin` (seconds of the piece) to its end; `offset` is what the clock of the
   * context is ahead of the piece.
   */
  schedule(note, begin, offset) {
    const { end, instrument, velocity, voiceSet } = this.piece.notes;
    const start = begin + offset;
    const release = Math.max(end[note], begin + 0.01) + offset;
    const loudness = (velocity[note] / 127) ** 2;
    for (const index of this.piece.voiceSets[voiceSet[note]]) {
      const voice = this.voices[index];
      const source = new AudioBufferSourceNode(this.context, {
        buffer: this.bank.get(voice.sample),
        playbackRate: voice.rate,
      });
      if (voice.loopEnd) {
        source.loop = true;
        source.loopStart = voice.loopStart / BUFFER_RATE;
        source.loopEnd = voice.loopEnd / BUFFER_RATE;
      }
      const gain = new GainNode(this.context, { gain: 0 });
      const peak = voice.gain * loudness;
      const amplification = this.piece.gain;
      const silent = scheduleEnvelope(gain.gain, voice, peak, start, release, amplification);
      let last = source.connect(gain);
      if (voice.cutoff) {
        const { cutoff: frequency, resonanceDb: Q } = voice;
        last = last.connect(new BiquadFilterNode(this.context, { type: "lowpass", frequency, Q }));
        last.detune.automationRate = "k-rate"; // every 3 ms is enough, and far cheaper
        if (voice.modulationToCutoff) {
          scheduleModulation(last.detune, voice, voice.modulationToCutoff, start, release);
        }
      }
      if (voice.modulationToPitch) {
        scheduleModulation(source.detune, voice, voice.modulationToPitch, start, release);
      }
      if (voice.vibratoCents) this.addVibrato(source, voice, start, silent);
      const choked = voice.exclusiveClass && this.piece.chokedAt[note];
      if (choked) {
        last = last.connect(new GainNode(this.context));
        last.gain.setTargetAtTime(0, choked + offset, FADE_S / 3);
      }
      last.connect(this.panner(instrument[note], voice.pan));
      const output = last;
      source.onended = () => [gain, output].forEach((node) => node.disconnect());
      source.start(start + voice.delay);
      source.stop(silent);
    }
  }

  addVibrato(source, voice, start, silent) {
    const { vibratoHz: frequency, vibratoCents, vibratoDelay } = voice;
    const oscillator = new OscillatorNode(this.context, { type: "triangle", frequency });
    const depth = new GainNode(this.context, { gain: vibratoCents });
    oscillator.connect(depth).connect(source.detune);
    oscillator.start(start + vibratoDelay);
    oscillator.stop(Math.max(silent, start + vibratoDelay + 0.001));
  }

  panner(instrument, pan) {
    const { gain, panners } = this.instruments[instrument];
    if (!panners.has(pan)) {
      const panner = new StereoPannerNode(this.context, { pan });
      panner.connect(gain);
      panners.set(pan, panner);
    }
    return panners.get(pan);
  }

  /**
   * Plays the notes from index `from` up to `to`, where the piece is at `position` when the clock
   * is at `clockAtPosition`. What began before is struck again if it still sounds long enough.
   */
  scheduleRange(from, to, position, clockAtPosition) {
    const { start, end } = this.piece.notes;
    for (let note = from; note < to; note++) {
      const begin = Math.max(start[note], position);
      if (begin > start[note] && end[note] - begin < SHORTEST_REST_S) continue;
      if (this.piece.chokedAt[note] < begin) continue;
      this.schedule(note, begin, clockAtPosition - position);
    }
  }

  /** Fades out and lets go of every voice. */
  dismiss() {
    const now = this.context.currentTime;
    this.output.gain.setTargetAtTime(0, now, FADE_S / 3);
    setTimeout(() => this.output.disconnect(), 1000 * FADE_S * 2);
  }
}

/** What all pieces pass through: the volume, and a limiter for dense places. */
function connectOutput(context) {
  const volume = new GainNode(context);
  const limiter = new DynamicsCompressorNode(context, {
    threshold: -8,
    knee: 6,
    ratio: 20,
    attack: 0.002,
    release: 0.15,
  });
  // A compressor amplifies by 60% of what it takes from the loudest sound, which is undone here.
  const makeup = new GainNode(context, { gain: fromDecibels(-0.6 * 8 * (1 - 1 / 20)) });
  volume.connect(limiter).connect(makeup).connect(context.destination);
  return volume;
}

/** Plays pieces: play, pause, seek, mute and solo. Times are seconds of the piece. */
class Player {
  constructor(data) {
    this.pieces = data.pieces;
    this.voices = data.voices;
    this.bank = new SampleBank(data.samples);
    for (const piece of this.pieces) piece.chokedAt = findChoked(piece, data.voices);
    this.muted = this.pieces.map(({ instruments }) => instruments.map(() => false));
    this.soloed = this.pieces.map(({ instruments }) => instruments.map(() => false));
    this.level = 1;
    this.index = 0;
    this.playing = false;
    this.pausedAt = 0;
    this.context = null;
    this.onchange = () => {};
  }

  get piece() {
    return this.pieces[this.index];
  }

  /** Where in the piece the sound is now. */
  get position() {
    return Math.min(this.playing ? this.clockPosition : this.pausedAt, this.piece.duration);
  }

  /** The same while playing, also after the end. */
  get clockPosition() {
    return this.startPosition + Math.max(0, this.context.currentTime - this.startClock);
  }

  /** Where in the piece the sound is that leaves the loudspeaker now. */
  get heardPosition() {
    const latency = this.playing ? this.context.outputLatency || 0 : 0;
    return Math.max(this.playing ? this.startPosition : 0, this.position - latency);
  }

  /** For each instrument whether it is heard. */
  get audible() {
    const soloed = this.soloed[this.index];
    const anySolo = soloed.includes(true);
    return this.muted[this.index].map((muted, i) => (anySolo ? soloed[i] : !muted));
  }

  play() {
    if (this.playing) return;
    if (!this.context) {
      // Otherwise the mute switch of an iPhone silences the music.
      if (navigator.audioSession) navigator.audioSession.type = "playback";
      this.context = new AudioContext({ latencyHint: "playback" });
      this.volume = connectOutput(this.context);
      this.setVolume(this.level);
    }
    this.context.resume();
    if (this.pausedAt >= this.piece.duration - 0.01) this.pausedAt = 0;
    this.playing = true;
    this.startEnsemble(this.pausedAt);
    this.timer = setInterval(() => this.scheduleAhead(), 100);
    this.onchange();
  }

  pause() {
    if (!this.playing) return;
    this.pausedAt = this.position;
    this.playing = false;
    clearInterval(this.timer);
    this.ensemble.dismiss();
    this.onchange();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  seek(seconds) {
    this.pausedAt = Math.min(Math.max(0, seconds), this.piece.duration);
    if (this.playing) {
      this.ensemble.dismiss();
      this.startEnsemble(this.pausedAt);
    }
    this.onchange();
  }

  /** Turns to another piece, from its beginning, and goes on playing if it was. */
  select(index) {
    const wasPlaying = this.playing;
    this.pause();
    this.index = index;
    this.pausedAt = 0;
    if (wasPlaying) this.play();
    this.onchange();
  }

  setVolume(level) {
    this.level = level;
    // Squared: loudness is heard by ratios.
    if (this.volume) this.volume.gain.setTargetAtTime(level ** 2, this.context.currentTime, FADE_S);
  }

  toggleMute(instrument) {
    this.muted[this.index][instrument] = !this.muted[this.index][instrument];
    this.updateAudible();
  }

  toggleSolo(instrument) {
    this.soloed[this.index][instrument] = !this.soloed[this.index][instrument];
    this.updateAudible();
  }

  updateAudible() {
    if (this.playing) this.ensemble.setAudible(this.audible);
    this.onchange();
  }

  startEnsemble(position) {
    this.ensemble = new Ensemble(this.context, this.piece, this.bank, this.voices);
    this.ensemble.output.connect(this.volume);
    this.ensemble.instruments.forEach(({ gain }, i) => {
      gain.gain.value = this.audible[i] ? 1 : 0;
    });
    this.startPosition = position;
    this.startClock = this.context.currentTime + LEAD_S;
    this.nextNote = 0;
    this.scheduleAhead();
  }

  /** Hands the notes of the next moments to the audio clock, which keeps the time. */
  scheduleAhead() {
    const { start } = this.piece.notes;
    const position = this.clockPosition;
    if (position >= this.piece.duration + TAIL_S) {
      this.pause();
      return;
    }
    const clock = this.startClock + (position - this.startPosition);
    const to = lowerBound(start, position + LOOK_AHEAD_S);
    this.ensemble.scheduleRange(this.nextNote, to, position, clock);
    this.nextNote = Math.max(this.nextNote, to);
  }
}

/**
 * Renders a part of a piece without a loudspeaker, through the same graph.
 *
 * Returns a promise of an AudioBuffer that begins at `from` seconds of the piece.
 */
function renderOffline(player, from, to, sampleRate = 44100) {
  const context = new OfflineAudioContext(2, Math.ceil((to - from) * sampleRate), sampleRate);
  const ensemble = new Ensemble(context, player.piece, player.bank, player.voices);
  ensemble.output.connect(connectOutput(context));
  ensemble.instruments.forEach(({ gain }, i) => {
    gain.gain.value = player.audible[i] ? 1 : 0;
  });
  // Bit by bit, as in playing: every node that waits for its note costs time.
  let next = 0;
  const scheduleUntil = (seconds) => {
    const end = lowerBound(player.piece.notes.start, Math.min(seconds, to));
    ensemble.scheduleRange(next, end, from, 0);
    next = Math.max(next, end);
  };
  scheduleUntil(from + LOOK_AHEAD_S);
  for (let time = 1; time < to - from; time++) {
    context.suspend(time).then(() => {
      scheduleUntil(from + time + LOOK_AHEAD_S);
      context.resume();
    });
  }
  return context.startRendering();
}
