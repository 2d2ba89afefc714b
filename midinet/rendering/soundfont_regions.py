"""The regions of a SoundFont: a sample each, and how it is played, in seconds, Hz and decibels.

Source: E-mu Systems, "SoundFont Technical Specification", version 2.04, 2006, section 8.1.3.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from midinet.rendering.soundfont_file import GENERATOR_COUNT, ROM_SAMPLE, Gen

NO_LOOP, LOOP, LOOP_UNTIL_RELEASE = 0, 1, 3

_COARSE_FRAMES = 32768
_FULL_RANGE = 127 << 8  # low byte: the lowest, high byte: the highest


def _defaults(envelope_times: int) -> np.ndarray:
    values = np.zeros(GENERATOR_COUNT, np.int64)
    values[[Gen.KEYS, Gen.VELOCITIES]] = _FULL_RANGE
    if envelope_times:
        values[[Gen.MOD_LFO_DELAY, Gen.VIB_LFO_DELAY]] = envelope_times
        for first in (Gen.MOD_ENV, Gen.VOLUME_ENV):
            values[[first, first + 1, first + 2, first + 3, first + 5]] = envelope_times
        values[[Gen.FIXED_KEY, Gen.FIXED_VELOCITY, Gen.ROOT_KEY]] = -1
        values[[Gen.CUTOFF, Gen.SCALE_TUNING]] = 13500, 100
    return values


INSTRUMENT_DEFAULTS = _defaults(envelope_times=-12000)
PRESET_DEFAULTS = _defaults(envelope_times=0)  # a preset adds nothing to its instruments

# What only an instrument can set, and a preset can't change.
_ONLY_OF_INSTRUMENTS = [
    *(Gen.START, Gen.END, Gen.LOOP_START, Gen.LOOP_END),
    *(Gen.START_COARSE, Gen.END_COARSE, Gen.LOOP_START_COARSE, Gen.LOOP_END_COARSE),
    *(Gen.FIXED_KEY, Gen.FIXED_VELOCITY, Gen.INSTRUMENT, Gen.SAMPLE),
    *(Gen.KEYS, Gen.VELOCITIES, Gen.LOOP_MODE, Gen.EXCLUSIVE_CLASS, Gen.ROOT_KEY),
]

# E-mu's sound cards attenuated by 0.4 of what the file says. Fonts are tuned by ear for them, and
# FluidSynth does the same.
_EMU_ATTENUATION = 0.4
_MIN_CUTOFF_CENTS, _MAX_CUTOFF_CENTS = 1500, 13500  # from 20 Hz to 20 kHz


class Sample(NamedTuple):
    """A recording in a SoundFont.

    Attributes:
        name: as the font calls it.
        rate_hz: sample rate.
        key: the MIDI key that was recorded.
        correction_cents: what to add to its pitch to be in tune.
    """

    name: str
    rate_hz: int
    key: int
    correction_cents: int


class Envelope(NamedTuple):
    """How a level changes during a note: delay, attack, hold, decay, sustain, release.

    Attributes:
        delay_s, attack_s, hold_s: seconds; `hold_s` and `decay_s` are those of key 60.
        decay_s: seconds of a decay all the way down; it stops early at the sustain level.
        sustain: for volume, decibels below the peak (0 to 144); for modulation, the level 0 to 1.
        release_s: seconds of a release from the peak all the way down.
        key_to_hold, key_to_decay: how many time cents (1200 double the time) each key below 60
            makes the hold and the decay longer.
    """

    delay_s: float
    attack_s: float
    hold_s: float
    decay_s: float
    sustain: float
    release_s: float
    key_to_hold: int
    key_to_decay: int

    def hold_at(self, key: int) -> float:
        """Seconds of hold for a MIDI key."""
        return self.hold_s * float(2 ** (self.key_to_hold * (60 - key) / 1200))

    def decay_at(self, key: int) -> float:
        """Seconds of decay for a MIDI key."""
        return self.decay_s * float(2 ** (self.key_to_decay * (60 - key) / 1200))


class Lfo(NamedTuple):
    """A low-frequency oscillator: a triangle wave that starts at 0 and rises first.

    Attributes:
        delay_s: seconds from the onset until it begins.
        rate_hz: oscillations per second.
    """

    delay_s: float
    rate_hz: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)  # a region equals only itself
class Region:
    """One sample and how it is played for a range of keys and velocities.

    Attributes:
        sample: the recording.
        start, end, loop_start, loop_end: frames within `SoundFont.samples`; ends are exclusive.
        loop_mode: `NO_LOOP`, `LOOP` (also after the release) or `LOOP_UNTIL_RELEASE`. It is
            `NO_LOOP` wherever the file's loop is empty.
        keys, velocities: the lowest and highest MIDI key and velocity that play it, inclusive.
        fixed_key, fixed_velocity: what to play instead of the note's own, or -1.
        root_key: the MIDI key at which the sample sounds as recorded.
        tuning_cents: added to the pitch; it includes the sample's correction.
        scale_tuning_cents: cents between neighbouring keys, usually 100.
        attenuation_db: decibels below full level, 0 or more.
        pan: -1 (left) to 1 (right).
        exclusive_class: notes of one class (not 0) on one instrument silence each other.
        reverb, chorus: the share of the sound, 0 to 1, that also goes through these effects.
        volume_envelope, modulation_envelope: see `Envelope`.
        cutoff_cents: cut-off of the low-pass filter in cents above 8.176 Hz; see `cutoff_hz`.
        resonance_db: height of the filter's resonance.
        modulation_envelope_to_pitch, modulation_envelope_to_cutoff: cents at the envelope's peak.
        vibrato, modulation_lfo: see `Lfo`.
        vibrato_to_pitch, modulation_lfo_to_pitch, modulation_lfo_to_cutoff: cents.
        modulation_lfo_to_volume_db: decibels.
    """

    sample: Sample
    start: int
    end: int
    loop_start: int
    loop_end: int
    loop_mode: int
    keys: tuple[int, int]
    velocities: tuple[int, int]
    fixed_key: int
    fixed_velocity: int
    root_key: int
    tuning_cents: int
    scale_tuning_cents: int
    attenuation_db: float
    pan: float
    exclusive_class: int
    reverb: float
    chorus: float
    volume_envelope: Envelope
    modulation_envelope: Envelope
    cutoff_cents: int
    resonance_db: float
    modulation_envelope_to_pitch: int
    modulation_envelope_to_cutoff: int
    vibrato: Lfo
    modulation_lfo: Lfo
    vibrato_to_pitch: int
    modulation_lfo_to_pitch: int
    modulation_lfo_to_cutoff: int
    modulation_lfo_to_volume_db: float

    @property
    def cutoff_hz(self) -> float:
        """The cut-off frequency of the low-pass filter, before any modulation."""
        return cents_to_hz(self.cutoff_cents)

    def plays(self, pitch: int, velocity: int) -> bool:
        """Whether a note of this pitch and velocity plays this region."""
        return (
            self.keys[0] <= pitch <= self.keys[1]
            and self.velocities[0] <= velocity <= self.velocities[1]
        )

    def speed(self, pitch: int) -> float:
        """Frames of the sample per second for a pitch: its rate, transposed."""
        key = pitch if self.fixed_key < 0 else self.fixed_key
        cents = (key - self.root_key) * self.scale_tuning_cents + self.tuning_cents
        return self.sample.rate_hz * float(2 ** (cents / 1200))


def cents_to_hz(cents: float) -> float:
    """A frequency from cents above 8.176 Hz, MIDI's key 0."""
    return 440 * float(2 ** ((cents - 6900) / 1200))


def make_region(
    header: np.void, preset_zone: np.ndarray, instrument_zone: np.ndarray, frames: int
) -> Region | None:
    """Makes a region of what a preset and its instrument say of a sample.

    Args:
        header: the sample's entry in the table `shdr`.
        preset_zone: `(GENERATOR_COUNT,)` integers, what the preset adds.
        instrument_zone: `(GENERATOR_COUNT,)` integers, what the instrument sets.
        frames: how many there are in all of the font's samples.

    Returns:
        The region; None where nothing can sound.
    """
    added = preset_zone.copy()
    added[_ONLY_OF_INSTRUMENTS] = 0
    g = (instrument_zone + added).tolist()
    keys, velocities = (
        _overlap(int(instrument_zone[kind]), int(preset_zone[kind]))
        for kind in (Gen.KEYS, Gen.VELOCITIES)
    )

    def place(name: str, fine: int, coarse: int) -> int:
        return int(header[name]) + int(g[fine]) + _COARSE_FRAMES * int(g[coarse])

    start = max(place("start", Gen.START, Gen.START_COARSE), 0)
    end = min(place("end", Gen.END, Gen.END_COARSE), frames)
    loop_start = max(place("loop_start", Gen.LOOP_START, Gen.LOOP_START_COARSE), start)
    loop_end = min(place("loop_end", Gen.LOOP_END, Gen.LOOP_END_COARSE), end)
    is_silent = header["type"] & ROM_SAMPLE or end - start < 2 or not header["rate"]
    if is_silent or keys[0] > keys[1] or velocities[0] > velocities[1]:
        return None
    loop_mode = g[Gen.LOOP_MODE] & 3
    if loop_mode == 2 or loop_end - loop_start < 2:
        loop_mode = NO_LOOP
    key = int(header["key"]) if header["key"] <= 127 else 60
    correction = int(header["correction"])
    return Region(
        sample=Sample(_text(header["name"]), int(header["rate"]), key, correction),
        start=start,
        end=end,
        loop_start=loop_start,
        loop_end=loop_end,
        loop_mode=loop_mode,
        keys=keys,
        velocities=velocities,
        fixed_key=g[Gen.FIXED_KEY] if 0 <= g[Gen.FIXED_KEY] <= 127 else -1,
        fixed_velocity=g[Gen.FIXED_VELOCITY] if 1 <= g[Gen.FIXED_VELOCITY] <= 127 else -1,
        root_key=g[Gen.ROOT_KEY] if 0 <= g[Gen.ROOT_KEY] <= 127 else key,
        tuning_cents=_clip(100 * g[Gen.COARSE_TUNE] + g[Gen.FINE_TUNE] + correction, -12099, 12099),
        scale_tuning_cents=_clip(g[Gen.SCALE_TUNING], 0, 1200),
        attenuation_db=_EMU_ATTENUATION * _clip(g[Gen.ATTENUATION], 0, 1440) / 10,
        pan=_clip(g[Gen.PAN], -500, 500) / 500,
        exclusive_class=g[Gen.EXCLUSIVE_CLASS],
        reverb=_clip(g[Gen.REVERB], 0, 1000) / 1000,
        chorus=_clip(g[Gen.CHORUS], 0, 1000) / 1000,
        volume_envelope=_envelope(g, Gen.VOLUME_ENV, _clip(g[Gen.VOLUME_ENV + 4], 0, 1440) / 10),
        modulation_envelope=_envelope(
            g, Gen.MOD_ENV, 1 - _clip(g[Gen.MOD_ENV + 4], 0, 1000) / 1000
        ),
        cutoff_cents=_clip(g[Gen.CUTOFF], _MIN_CUTOFF_CENTS, _MAX_CUTOFF_CENTS),
        resonance_db=_clip(g[Gen.RESONANCE], 0, 960) / 10,
        modulation_envelope_to_pitch=_clip(g[Gen.MOD_ENV_TO_PITCH], -12000, 12000),
        modulation_envelope_to_cutoff=_clip(g[Gen.MOD_ENV_TO_CUTOFF], -12000, 12000),
        vibrato=_lfo(g[Gen.VIB_LFO_DELAY], g[Gen.VIB_LFO_RATE]),
        modulation_lfo=_lfo(g[Gen.MOD_LFO_DELAY], g[Gen.MOD_LFO_RATE]),
        vibrato_to_pitch=_clip(g[Gen.VIB_LFO_TO_PITCH], -12000, 12000),
        modulation_lfo_to_pitch=_clip(g[Gen.MOD_LFO_TO_PITCH], -12000, 12000),
        modulation_lfo_to_cutoff=_clip(g[Gen.MOD_LFO_TO_CUTOFF], -12000, 12000),
        modulation_lfo_to_volume_db=_clip(g[Gen.MOD_LFO_TO_VOLUME], -960, 960) / 10,
    )


def _overlap(a: int, b: int) -> tuple[int, int]:
    """The common part of two ranges as the file holds them: lowest, highest."""
    return max(a & 0xFF, b & 0xFF), min(a >> 8 & 0xFF, b >> 8 & 0xFF)


def _envelope(g: list[int], first: int, sustain: float) -> Envelope:
    """An envelope from its eight generators, in the order in which `Envelope` has its fields."""
    delay, attack, hold, decay = (_seconds(g[first + i]) for i in range(4))
    key_to_hold, key_to_decay = (_clip(g[first + i], -1200, 1200) for i in (6, 7))
    release = _seconds(g[first + 5])
    return Envelope(delay, attack, hold, decay, sustain, release, key_to_hold, key_to_decay)


def _lfo(delay: int, rate: int) -> Lfo:
    return Lfo(_seconds(delay), cents_to_hz(_clip(rate, -16000, 4500)))


def _seconds(time_cents: int) -> float:
    """Seconds from time cents, of which 1200 double the time."""
    if time_cents <= -12000:
        return 0.0
    return float(2 ** (min(time_cents, 8000) / 1200))


def _clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1").strip()
