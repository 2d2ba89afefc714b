"""The sounds of a player page: those samples of a SoundFont that its notes use, and how.

What a SoundFont says of a note is worked out here, so that the page's script only plays buffers at
a speed, with a gain, an envelope, a filter and a place from left to right.
"""

from __future__ import annotations

import base64

import numpy as np

from midinet.rendering.soundfont import SoundFont
from midinet.rendering.soundfont_regions import NO_LOOP, Region

_BUFFER_RATE_HZ = 44100  # BUFFER_RATE of page/sound.js
_GUARD_FRAMES = 8  # after the last frame that is heard, for interpolation
_MAX_RING_S = 2.0  # of a released note that is kept
_OPEN_FILTER_CENTS = 13500  # the low-pass filter lets everything pass
_FLAT_RESONANCE_DB = 3.01  # which a SoundFont counts as 0, and Web Audio as a peak of so much less
_MIN_STAGE_S = 0.001  # of an envelope: nothing changes at once, which would click
_LOUDNESS_FRAMES = 8000  # of a sample's beginning


class PlayerSounds:
    """The samples and voices that a page needs, collected note by note.

    A voice is a region of the SoundFont at one pitch. Samples hold only what is heard of them: no
    more than the longest note plays, and nothing after a loop.

    Attributes:
        voices: what the page's scripts read of each voice. Times are in seconds; `rate` is
            relative to a buffer of 44100 Hz; loops are in frames, of which 0 means no loop.
    """

    def __init__(self, font: SoundFont):
        self.voices: list[dict[str, float]] = []
        self._font = font
        self._voices_of_note: dict[tuple[int, bool, int, int], tuple[int, ...]] = {}
        self._voice_numbers: dict[tuple[int, int], int] = {}
        self._regions: list[Region] = []  # one for each voice
        self._samples: dict[tuple[int, int], int] = {}  # number of a sample by its start and end
        self._frames: list[int] = []  # to keep of each sample
        self._powers: dict[int, float] = {}  # by number of the sample

    def voices_for(self, program: int, is_drum: bool, pitch: int, velocity: int) -> tuple[int, ...]:
        """The voices, as indices into `voices`, that a note plays at once."""
        key = (program, is_drum, pitch, velocity)
        if key not in self._voices_of_note:
            regions = self._font.regions_for(program, is_drum, pitch, velocity)
            self._voices_of_note[key] = tuple(self._voice(region, pitch) for region in regions)
        return self._voices_of_note[key]

    def use(self, voices: tuple[int, ...], length_s: float) -> None:
        """Keeps as much of the samples as a note of this length plays."""
        for number in voices:
            region, voice = self._regions[number], self.voices[number]
            if region.loop_mode == NO_LOOP:
                ring_s = min(voice["release"], _MAX_RING_S)
                needed = round((length_s + ring_s) * voice["rate"] * _BUFFER_RATE_HZ)
            else:
                needed = region.loop_end - region.start
            sample = int(voice["sample"])
            needed = min(needed + _GUARD_FRAMES, region.end - region.start)
            self._frames[sample] = max(self._frames[sample], needed)

    def power(self, voices: tuple[int, ...]) -> float:
        """The mean square, relative to full scale, of what the voices play at full velocity."""
        return sum(
            self.voices[number]["gain"] ** 2 * self._sample_power(number) for number in voices
        )

    def encode_samples(self) -> list[str]:
        """The samples in base64: 16 bits, little-endian. For when all notes have been used."""
        return [
            base64.b64encode(
                self._font.samples[start : start + frames].astype("<i2").tobytes()
            ).decode()
            for (start, _), frames in zip(self._samples, self._frames, strict=True)
        ]

    def _sample_power(self, number: int) -> float:
        sample = int(self.voices[number]["sample"])
        if sample not in self._powers:
            region = self._regions[number]
            end = min(region.end, region.start + _LOUDNESS_FRAMES)
            beginning = self._font.samples[region.start : end] / 32768.0
            self._powers[sample] = float(np.mean(beginning**2))
        return self._powers[sample]

    def _voice(self, region: Region, pitch: int) -> int:
        """The number of a voice, which is added when it is new."""
        key = (id(region), pitch)  # the font keeps its regions, so the numbers stay theirs
        if key not in self._voice_numbers:
            self._voice_numbers[key] = len(self.voices)
            self._regions.append(region)
            self.voices.append(self._describe(region, pitch))
        return self._voice_numbers[key]

    def _describe(self, region: Region, pitch: int) -> dict[str, float]:
        bounds = (region.start, region.end)
        if bounds not in self._samples:
            self._samples[bounds] = len(self._frames)
            self._frames.append(0)
        key = pitch if region.fixed_key < 0 else region.fixed_key
        envelope, modulation = region.volume_envelope, region.modulation_envelope
        has_loop = region.loop_mode != NO_LOOP
        to_cutoff = region.modulation_envelope_to_cutoff
        is_filtered = region.cutoff_cents < _OPEN_FILTER_CENTS or to_cutoff < 0
        # Either oscillator can move the pitch, and no font moves it with both.
        vibrato, vibrato_cents = region.vibrato, region.vibrato_to_pitch
        if not vibrato_cents:
            vibrato, vibrato_cents = region.modulation_lfo, region.modulation_lfo_to_pitch
        values = {
            "sample": self._samples[bounds],
            "rate": region.speed(pitch) / _BUFFER_RATE_HZ,
            "gain": 10 ** (-region.attenuation_db / 20),
            "pan": region.pan,
            "loopStart": region.loop_start - region.start if has_loop else 0,
            "loopEnd": region.loop_end - region.start if has_loop else 0,
            "delay": envelope.delay_s,
            "attack": max(_MIN_STAGE_S, envelope.attack_s),
            "hold": envelope.hold_at(key),
            "decay": max(_MIN_STAGE_S, envelope.decay_at(key)),
            "sustainDb": min(100.0, envelope.sustain),
            "release": envelope.release_s,
            "cutoff": region.cutoff_hz if is_filtered else 0,
            "resonanceDb": region.resonance_db - _FLAT_RESONANCE_DB if is_filtered else 0,
            "modulationDelay": modulation.delay_s,
            "modulationAttack": max(_MIN_STAGE_S, modulation.attack_s),
            "modulationHold": modulation.hold_at(key),
            "modulationDecay": max(_MIN_STAGE_S, modulation.decay_at(key)),
            "modulationSustain": modulation.sustain,
            "modulationRelease": max(_MIN_STAGE_S, modulation.release_s),
            "modulationToCutoff": to_cutoff if is_filtered else 0,
            "modulationToPitch": region.modulation_envelope_to_pitch,
            "vibratoDelay": vibrato.delay_s if vibrato_cents else 0,
            "vibratoHz": vibrato.rate_hz if vibrato_cents else 0,
            "vibratoCents": vibrato_cents,
            "exclusiveClass": region.exclusive_class,
        }
        return {name: round(float(value), 5) for name, value in values.items()}
