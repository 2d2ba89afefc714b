"""Notes -> sound, with a SoundFont and NumPy alone.

Many notes of a piece share their pitch and their instrument. Such notes differ only in loudness
and in when they are released, so the sound of one held note is computed once, with pitch,
vibrato, filter and envelope, and each note is then a copy of its beginning plus a release.

The curves follow FluidSynth (`fluid_voice.c`, `fluid_iir_filter.c`, `fluid_conv.c`), so that both
players sound alike; where the SoundFont specification differs from it, the comments say so.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from midinet.midi.notes import Notes
from midinet.rendering.effects import add_chorus, add_reverb
from midinet.rendering.soundfont import SoundFont
from midinet.rendering.soundfont_regions import (
    LOOP_UNTIL_RELEASE,
    NO_LOOP,
    Envelope,
    Lfo,
    Region,
    cents_to_hz,
)

_FLOOR_DB = 96.0  # full scale of 16 bits; what is softer is silence
_MIN_RELEASE_S = 2**-6  # a shorter release clicks
_EXCLUSIVE_RELEASE_S = 2 ** (-200 / 1200)  # of notes that a note of their class silences
_MIN_NOTE_S = 0.01
_MAX_RELEASE_S = 20.0
_CHUNK_FRAMES = 1 << 16  # so that a note of ten minutes needs little memory beside its sound
_CONTROL_FRAMES = 64  # modulation is computed for every 64th frame and interpolated
_FILTER_FRAMES = 512  # time resolution of the filter: 12 ms at 44.1 kHz
_OPEN_FILTER = 0.4  # share of the sample rate; above it a filter without resonance changes nothing


@dataclasses.dataclass(frozen=True, slots=True)
class _Voice:
    """One region played by one note.

    Attributes:
        start: first frame of the output.
        held: frames until the release.
        gain: from the note's velocity.
        release_s: seconds in which the release falls by `_FLOOR_DB`.
    """

    start: int
    held: int
    gain: float
    release_s: float


def render(notes: Notes, font: SoundFont, sample_rate: int = 44100) -> np.ndarray:
    """Plays notes with a SoundFont.

    Args:
        notes: the music.
        font: an opened SoundFont; what it lacks is silent, see `SoundFont.regions`.
        sample_rate: in Hz.

    Returns:
        `(2, frames)` float32, left and right, until the last note has faded away. One note at
        full velocity has an amplitude of about 1; what is mixed of many exceeds it.

    Example:
        sound = render(read_midi("song.mid"), read_soundfont("font.sf2"))
    """
    groups = _voices(notes, font, sample_rate)
    frames = 1
    for (region, pitch, _), voices in groups.items():
        limit = _sounding_frames(region, pitch, sample_rate)
        for voice in voices:
            held = min(voice.held, limit)
            ends = min(held + round(voice.release_s * sample_rate), limit)
            frames = max(frames, voice.start + ends)
    if any(region.reverb for region, _, _ in groups):
        frames += sample_rate  # for the reverberation
    mix = np.zeros((4, frames), np.float32)  # left, right, into the reverb, into the chorus
    for (region, pitch, _), voices in groups.items():
        _add_group(mix, region, pitch, voices, font, sample_rate)
    sound = mix[:2]
    add_reverb(sound, mix[2], sample_rate)
    add_chorus(sound, mix[3], sample_rate)
    return sound


def _voices(
    notes: Notes, font: SoundFont, sample_rate: int
) -> dict[tuple[Region, int, int], list[_Voice]]:
    """What is to be played: for each region and pitch the voices that share a sound.

    The third part of the key tells apart voices whose sound depends on when they are released,
    because their loop ends there.
    """
    starts = np.rint(notes.start_ms * sample_rate / 1000).astype(int)
    lengths_s = np.maximum((notes.end_ms - notes.start_ms) / 1000, _MIN_NOTE_S)
    held = np.rint(lengths_s * sample_rate).astype(int)
    cut_at = _exclusive_cuts(notes, font, starts)
    groups: dict[tuple[Region, int, int], list[_Voice]] = defaultdict(list)
    for index, (program, is_drum, pitch, velocity) in enumerate(_rows(notes)):
        for region in font.regions_for(program, is_drum, pitch, velocity):
            release_s = max(region.volume_envelope.release_s, _MIN_RELEASE_S)
            frames = int(held[index])
            cut = cut_at.get((index, region.exclusive_class))
            if cut is not None and cut < frames + release_s * sample_rate:
                frames, release_s = min(frames, cut), min(release_s, _EXCLUSIVE_RELEASE_S)
            loudness = region.fixed_velocity if region.fixed_velocity > 0 else velocity
            # 40 log10 decibels, MIDI's law and FluidSynth's
            gain = (loudness / 127) ** 2
            release_s = min(release_s, _MAX_RELEASE_S)
            released = frames if region.loop_mode == LOOP_UNTIL_RELEASE else 0
            voice = _Voice(int(starts[index]), frames, gain, release_s)
            groups[region, pitch, released].append(voice)
    return groups


def _rows(notes: Notes) -> Iterator[tuple[int, bool, int, int]]:
    columns = (notes.program, notes.is_drum, notes.pitch, notes.velocity)
    return zip(*(column.tolist() for column in columns), strict=True)


def _exclusive_cuts(
    notes: Notes, font: SoundFont, starts: np.ndarray
) -> dict[tuple[int, int], int]:
    """When a later note of its class silences a note, such as a closed hi-hat an open one.

    Returns:
        By index of the note and class: frames from the note's onset.
    """
    cuts: dict[tuple[int, int], int] = {}
    latest: dict[tuple[int, bool, int], list[int]] = {}
    for index, (program, is_drum, pitch, velocity) in enumerate(_rows(notes)):
        regions = font.regions_for(program, is_drum, pitch, velocity)
        for kind in {region.exclusive_class for region in regions} - {0}:
            together = latest.setdefault((program, is_drum, kind), [])
            if together and starts[together[0]] < starts[index]:
                cuts |= {(i, kind): int(starts[index] - starts[i]) for i in together}
                together.clear()
            together.append(index)
    return cuts


def _add_group(
    mix: np.ndarray,
    region: Region,
    pitch: int,
    voices: list[_Voice],
    font: SoundFont,
    sample_rate: int,
) -> None:
    """Adds all voices that share a sound to the mix, `(4, frames)`; see `render`."""
    limit = _sounding_frames(region, pitch, sample_rate)
    releases = [round(voice.release_s * sample_rate) for voice in voices]
    held = [min(voice.held, limit) for voice in voices]
    longest = max(min(h + r, limit) for h, r in zip(held, releases, strict=True))
    released = voices[0].held if region.loop_mode == LOOP_UNTIL_RELEASE else longest
    raw = _held_sound(font, region, pitch, sample_rate, longest, released)
    times = np.arange(0, longest + _CONTROL_FRAMES, _CONTROL_FRAMES) / sample_rate
    levels = _volume(region.volume_envelope, _key(region, pitch), times)
    shaped = raw * _interpolate(levels, longest)
    full = 10 ** (-region.attenuation_db / 20)
    gains = [full * g for g in (*_pan_gains(region.pan), region.reverb, region.chorus)]
    curves: dict[float, np.ndarray] = {}
    for voice, on, release in zip(voices, held, releases, strict=True):
        end = min(on + release, longest)
        curve = curves.get(voice.release_s)
        if curve is None:
            frames = np.arange(release, dtype=np.float32)
            curve = np.power(np.float32(10), frames * np.float32(-_FLOOR_DB / 20 / max(release, 1)))
            curves[voice.release_s] = curve
        tail = raw[on:end] * (curve[: end - on] * _level_at(levels, on))
        for channel, gain in zip(mix, gains, strict=True):
            if not gain:
                continue
            factor = np.float32(gain * voice.gain)
            channel[voice.start : voice.start + on] += shaped[:on] * factor
            channel[voice.start + on : voice.start + end] += tail * factor


def _sounding_frames(region: Region, pitch: int, sample_rate: int) -> int:
    """After how many frames a note falls silent by itself, however long it is held."""
    frames = math.inf
    if region.loop_mode == NO_LOOP:
        frames = (region.end - region.start) / region.speed(pitch) * sample_rate
    envelope = region.volume_envelope
    if envelope.sustain >= _FLOOR_DB:
        key = _key(region, pitch)
        seconds = envelope.delay_s + envelope.attack_s
        seconds += envelope.hold_at(key) + envelope.decay_at(key)
        frames = min(frames, seconds * sample_rate)
    return int(min(frames, 1 << 40))


def _key(region: Region, pitch: int) -> int:
    return pitch if region.fixed_key < 0 else region.fixed_key


def _pan_gains(pan: float) -> tuple[float, float]:
    """Left and right at constant power."""
    angle = (pan + 1) * math.pi / 4
    return math.cos(angle), math.sin(angle)


def _interpolate(values: np.ndarray, frames: int) -> np.ndarray:
    """From one value per `_CONTROL_FRAMES` to one per frame, linearly."""
    slopes = np.linspace(0, 1, _CONTROL_FRAMES, endpoint=False, dtype=np.float32)
    values = values.astype(np.float32)
    return (values[:-1, None] + np.diff(values)[:, None] * slopes).reshape(-1)[:frames]


def _level_at(levels: np.ndarray, frame: int) -> np.float32:
    first, rest = divmod(frame, _CONTROL_FRAMES)
    following = levels[min(first + 1, len(levels) - 1)]
    share = rest / _CONTROL_FRAMES
    return np.float32(levels[min(first, len(levels) - 1)] * (1 - share) + following * share)


def _volume(envelope: Envelope, key: int, times: np.ndarray) -> np.ndarray:
    """The volume envelope of a held note as amplitudes 0 to 1 at times in seconds."""
    attack_end = envelope.delay_s + envelope.attack_s
    decay_start = attack_end + envelope.hold_at(key)
    decay_s = max(envelope.decay_at(key), 1e-4)
    decibels = np.maximum(times - decay_start, 0) / decay_s * _FLOOR_DB
    # FluidSynth falls by 96 dB, not 100, over the decay's time.
    decibels = np.minimum(decibels, envelope.sustain * _FLOOR_DB / 100)
    attack = np.clip((times - envelope.delay_s) / max(envelope.attack_s, 1e-4), 0, 1)
    return np.where(times < decay_start, attack, 10 ** (-decibels / 20))


def _modulation(envelope: Envelope, key: int, times: np.ndarray) -> np.ndarray:
    """The modulation envelope of a held note, 0 to 1."""
    attack = np.clip((times - envelope.delay_s) / max(envelope.attack_s, 1e-4), 0, 1)
    # The attack is convex: it rises fast at first. Source: the specification, section 9.1.7.
    attack = np.maximum(1 + 400 / 960 * np.log10(np.maximum(attack, 1e-5)), 0)
    decay_start = envelope.delay_s + envelope.attack_s + envelope.hold_at(key)
    fall = np.maximum(times - decay_start, 0) / max(envelope.decay_at(key), 1e-4)
    return np.where(times < decay_start, attack, np.maximum(1 - fall, envelope.sustain))


def _triangle(lfo: Lfo, times: np.ndarray) -> np.ndarray:
    phase = np.maximum(times - lfo.delay_s, 0) * lfo.rate_hz
    return 1 - np.abs((4 * phase + 3) % 4 - 2)


def _held_sound(
    font: SoundFont, region: Region, pitch: int, sample_rate: int, frames: int, released: int
) -> np.ndarray:
    """The sound of a held note before its volume envelope: `(frames,)` float32.

    Args:
        released: the frame at which a loop ends that lasts until the release.
    """
    times = np.arange(0, frames + _CONTROL_FRAMES, _CONTROL_FRAMES) / sample_rate
    modulation = _modulation(region.modulation_envelope, _key(region, pitch), times)
    wobble = _triangle(region.modulation_lfo, times)
    cents = modulation * region.modulation_envelope_to_pitch
    cents = cents + wobble * region.modulation_lfo_to_pitch
    cents = cents + _triangle(region.vibrato, times) * region.vibrato_to_pitch
    step = region.speed(pitch) / sample_rate
    sound = _resample(font, region, step * 2 ** (cents / 1200), frames, released)
    if region.modulation_lfo_to_volume_db:
        decibels = wobble * region.modulation_lfo_to_volume_db
        sound *= _interpolate(10 ** (decibels / 20), frames)
    cutoff = region.cutoff_cents + modulation * region.modulation_envelope_to_cutoff
    cutoff = cutoff + wobble * region.modulation_lfo_to_cutoff
    is_open = cutoff.min() > 0 and cents_to_hz(float(cutoff.min())) > _OPEN_FILTER * sample_rate
    if not is_open or region.resonance_db:
        every = _FILTER_FRAMES // _CONTROL_FRAMES
        hertz = 440 * 2 ** ((cutoff[::every] - 6900) / 1200)
        sound = _low_pass(sound, hertz, region.resonance_db, sample_rate)
    return sound


def _resample(
    font: SoundFont, region: Region, steps: np.ndarray, frames: int, released: int
) -> np.ndarray:
    """Reads a sample at a changing speed, by cubic interpolation between its frames.

    Args:
        steps: frames of the sample per frame of the output, one per `_CONTROL_FRAMES`.
    """
    loops = region.loop_mode != NO_LOOP
    loop_start, loop_end = region.loop_start - region.start, region.loop_end - region.start
    # What is read: the sample with a frame before it and, after its loop, the loop's beginning.
    leaves_loop = region.loop_mode == LOOP_UNTIL_RELEASE
    kept = loop_end if loops and not leaves_loop else region.end - region.start
    sample = font.samples[region.start : region.start + kept].astype(np.float32) / 32768
    after = np.resize(sample[loop_start:loop_end], 3) if loops else np.zeros(3, np.float32)
    sample = np.concatenate([np.zeros(1, np.float32), sample, after])
    # The position at each control frame; between them the speed is constant.
    begins = np.concatenate([[0.0], np.cumsum(steps * _CONTROL_FRAMES)])
    slopes = np.arange(_CONTROL_FRAMES)
    sound = np.empty(frames, np.float32)
    per_chunk = _CHUNK_FRAMES // _CONTROL_FRAMES
    turns_left = math.inf
    if leaves_loop:
        block, rest = divmod(min(released, frames), _CONTROL_FRAMES)
        turns_left = (begins[block] + rest * steps[block] - loop_start) // (loop_end - loop_start)
    for first in range(0, frames, _CHUNK_FRAMES):
        part = slice(first // _CONTROL_FRAMES, first // _CONTROL_FRAMES + per_chunk)
        position = (begins[:-1][part, None] + steps[part, None] * slopes).reshape(-1)
        position = position[: frames - first]
        if loops:
            turns = np.floor_divide(position - loop_start, loop_end - loop_start)
            position -= np.clip(turns, 0, max(turns_left, 0)) * (loop_end - loop_start)
        position = np.minimum(position, kept)  # a frame of silence follows
        index = position.astype(np.int32)
        sound[first : first + len(index)] = _cubic(sample, index, position - index)
    return sound


def _cubic(sample: np.ndarray, index: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The value `share` of the way from frame `index` to the next, by the four frames around."""
    x = share.astype(np.float32)
    a, b, c, d = (sample[index + i] for i in range(4))
    slope = 0.5 * (c - a)
    curve = a - 2.5 * b + 2 * c - 0.5 * d
    result: np.ndarray = b + x * (slope + x * (curve + x * (0.5 * (d - a) + 1.5 * (b - c))))
    return result


def _low_pass(
    sound: np.ndarray, cutoff_hz: np.ndarray, resonance_db: float, sample_rate: int
) -> np.ndarray:
    """FluidSynth's resonant low-pass filter, with a cut-off per `_FILTER_FRAMES`.

    Half-overlapping pieces are filtered through their spectra, each with the frequency response of
    its own time, because a recursive filter would take a Python step per frame.

    Source: R. Bristow-Johnson, "Cookbook formulae for audio EQ biquad filter coefficients", LPF.
    """
    hop, size = _FILTER_FRAMES, 4 * _FILTER_FRAMES
    q = 10 ** ((resonance_db - 3.01) / 20)
    count = len(sound) // hop + 2
    padded = np.zeros((count + 1) * hop, np.float32)
    padded[hop : hop + len(sound)] = sound
    window = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)).astype(np.float32) ** 2
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size).astype(np.complex64)
    result = np.zeros((count + 4) * hop, np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    for first in range(0, count, 64):
        group = pieces[first : first + 64]
        places = np.clip(np.arange(first, first + len(group)), 0, len(cutoff_hz) - 1)
        omega = 2 * np.pi * np.clip(cutoff_hz[places] / sample_rate, 5 / sample_rate, 0.45)
        cos, alpha = np.cos(omega)[:, None], (np.sin(omega) / (2 * q))[:, None]
        # Without resonance the pass band is at 0 dB; with it, lower by half the resonance.
        gain = 10 ** (-resonance_db / 40)
        response = (gain * (1 - cos) / 2).astype(np.float32) * (1 + z) ** 2
        response /= (1 + alpha + z * (-2 * cos + z * (1 - alpha))).astype(np.complex64)
        filtered = np.fft.irfft(np.fft.rfft(group * window, size) * response, size)
        for quarter in range(4):
            part = filtered[:, quarter * hop : (quarter + 1) * hop].reshape(-1)
            begin = (first + quarter) * hop
            result[begin : begin + len(part)] += part.astype(np.float32)
    return result[hop : hop + len(sound)]
