"""Reverb and chorus: the room around the instruments, and several players instead of one.

Both are as loud and as long as FluidSynth's at its default settings, measured from its response
to a single click; their inner workings are simpler.
"""

from __future__ import annotations

import numpy as np

_REVERB_DECAY_S = 0.97  # until 60 dB softer
_REVERB_ENERGY = 0.77  # of both channels together, for a click of energy 1
_REVERB_SHARED = 0.61  # correlation of left and right
_CHORUS_DEPTH_S = 0.008
_CHORUS_RATE_HZ = 0.3
_CHORUS_GAIN = 2.76  # of each line and channel; FluidSynth's chorus is that loud
_CHORUS_LINES = 3
_CHUNK_FRAMES = 1 << 17


def add_reverb(sound: np.ndarray, sends: np.ndarray, sample_rate: int) -> None:
    """Adds the reverberation of a signal: noise that fades away, as in a room of many echoes.

    Args:
        sound: `(2, frames)` float32, changed in place.
        sends: `(frames,)` float32, what goes into the reverb.
        sample_rate: in Hz.
    """
    if not sends.any():
        return
    length = min(_CHUNK_FRAMES, int(1.2 * _REVERB_DECAY_S * sample_rate))
    noise = np.random.default_rng(1).standard_normal((3, length))
    shared = np.sqrt([[_REVERB_SHARED], [1 - _REVERB_SHARED]])
    response = shared[0] * noise[0] + shared[1] * noise[1:]
    response *= 10 ** (-3 * np.arange(length) / (_REVERB_DECAY_S * sample_rate))
    response *= np.sqrt(_REVERB_ENERGY / np.square(response).sum())
    size = 2 * _CHUNK_FRAMES
    spectrum = np.fft.rfft(response.astype(np.float32), size)
    for first in range(0, len(sends), _CHUNK_FRAMES):
        part = sends[first : first + _CHUNK_FRAMES]
        if part.any():
            wet = np.fft.irfft(np.fft.rfft(part, size) * spectrum, size)
            end = min(first + size, sound.shape[1])
            sound[:, first:end] += wet[:, : end - first].astype(np.float32)


def add_chorus(sound: np.ndarray, sends: np.ndarray, sample_rate: int) -> None:
    """Adds delayed copies of a signal whose delays swing slowly, so that their pitches differ.

    Args:
        sound: `(2, frames)` float32, changed in place.
        sends: `(frames,)` float32, what goes into the chorus.
        sample_rate: in Hz.
    """
    depth = _CHORUS_DEPTH_S * sample_rate
    margin = int(depth) + 2
    padded = np.concatenate([np.zeros(margin, np.float32), sends])
    for first in range(0, len(sends), _CHUNK_FRAMES):
        frames = np.arange(first, min(first + _CHUNK_FRAMES, len(sends)))
        if not padded[first : first + len(frames) + margin].any():
            continue
        for line in range(_CHORUS_LINES):
            phase = 2 * np.pi * (_CHORUS_RATE_HZ * frames / sample_rate + line / _CHORUS_LINES)
            place = frames + margin - depth / 2 * (1 + np.sin(phase))
            index = place.astype(np.int64)
            share = (place - index).astype(np.float32)
            index = np.minimum(index, len(padded) - 2)
            wet = padded[index] * (1 - share) + padded[index + 1] * share
            sound[:, first : first + len(frames)] += np.float32(_CHORUS_GAIN) * wet
