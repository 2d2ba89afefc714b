// Envelopes: how a voice's loudness, filter and pitch move while its note sounds.

const SILENCE_DB = 100; // a SoundFont's decay and release times are those of a fall by so much
const AUDIBLE_DB = 60; // below full scale: what is softer is not missed

const fromDecibels = (db) => 10 ** (db / 20);

/** Level of a voice's envelope, 0 to 1, `seconds` after its start while its key is held. */
function envelopeLevel(voice, seconds) {
  const attacked = seconds - voice.delay;
  if (attacked < voice.attack) return Math.max(0, attacked / voice.attack);
  const decayed = attacked - voice.attack - voice.hold;
  if (decayed <= 0) return 1;
  return fromDecibels(-Math.min(voice.sustainDb, (SILENCE_DB * decayed) / voice.decay));
}

/**
 * Draws a whole envelope onto a gain.
 *
 * Returns when the voice can no longer be heard, if it is amplified by `amplification` later.
 */
function scheduleEnvelope(gain, voice, peak, start, release, amplification) {
  const held = release - start;
  const attackEnd = voice.delay + voice.attack;
  const holdEnd = attackEnd + voice.hold;
  const level = Math.max(envelopeLevel(voice, held), 1e-6);
  gain.setValueAtTime(0, start);
  gain.setValueAtTime(0, start + Math.min(voice.delay, held));
  if (held <= attackEnd) {
    gain.linearRampToValueAtTime(peak * level, release);
  } else {
    gain.linearRampToValueAtTime(peak, start + attackEnd);
    if (held > holdEnd) {
      const decayEnd = holdEnd + (voice.decay * voice.sustainDb) / SILENCE_DB;
      gain.setValueAtTime(peak, start + holdEnd);
      const end = Math.max(holdEnd + 0.001, Math.min(held, decayEnd));
      gain.exponentialRampToValueAtTime(peak * level, start + end);
    }
    gain.setValueAtTime(peak * level, release);
  }
  const silent = release + Math.max(0.005, voice.release);
  gain.exponentialRampToValueAtTime(peak * level * fromDecibels(-SILENCE_DB), silent);
  // Releases take seconds, most of which nobody hears: voices that have faded cost as much as others.
  const audibleDb = (gainNow) =>
    Math.max(0, AUDIBLE_DB + 20 * Math.log10(gainNow * amplification + 1e-9));
  const fadedOut = release + Math.max(0.005, (voice.release * audibleDb(peak * level)) / SILENCE_DB);
  if (voice.sustainDb < audibleDb(peak)) return fadedOut;
  const decayedOut = start + holdEnd + (voice.decay * audibleDb(peak)) / SILENCE_DB;
  return Math.min(fadedOut, decayedOut);
}

/** Level of a voice's modulation envelope, 0 to 1, `seconds` after its start. */
function modulationLevel(voice, seconds) {
  const attacked = seconds - voice.modulationDelay;
  if (attacked < voice.modulationAttack) return Math.max(0, attacked / voice.modulationAttack);
  const decayed = attacked - voice.modulationAttack - voice.modulationHold;
  return Math.max(voice.modulationSustain, 1 - Math.max(0, decayed) / voice.modulationDecay);
}

/** Draws a modulation envelope onto a detuning in cents: of a filter, or of the pitch. */
function scheduleModulation(detune, voice, cents, start, release) {
  const attackEnd = voice.modulationDelay + voice.modulationAttack;
  const holdEnd = attackEnd + voice.modulationHold;
  const decayEnd = holdEnd + (1 - voice.modulationSustain) * voice.modulationDecay;
  const held = release - start;
  detune.setValueAtTime(0, start);
  for (const corner of [voice.modulationDelay, attackEnd, holdEnd, decayEnd, held]) {
    if (corner > held) continue;
    detune.linearRampToValueAtTime(cents * modulationLevel(voice, corner), start + corner);
  }
  const level = modulationLevel(voice, held);
  detune.linearRampToValueAtTime(0, release + level * voice.modulationRelease);
}
