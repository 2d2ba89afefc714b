"""Sound -> WAV or MP3 file: even loudness, limited peaks, and no long silence at the end."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from midinet.errors import AudioError

TARGET_LUFS = -16.0  # what streaming services play music at, within 2 dB
PEAK = 10 ** (-1 / 20)  # highest amplitude: 1 dB below full scale
_MAX_GAIN = 3000.0  # so that silence does not become noise
_END_DB = -60.0  # where a fading sound is cut
_FADE_S = 0.05
_PEAK_BLOCK_S = 0.005  # time resolution of the limiter
_RELEASE_BLOCKS = 20  # the limiter's gain changes over this many blocks, a tenth of a second
_GATE_BLOCK_S = 0.4
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_DB = -70.0, -10.0
_CHUNK_S = 20


def write_master(sound: np.ndarray, unit: float, path: Path, sample_rate: int) -> None:
    """Brings sound to an even loudness and writes it to a file of 16 bits.

    Loudness is that of ITU-R BS.1770-4, integrated over the piece; one loud moment thus leaves
    the rest as it is, and its peak is limited. The end is cut where the sound has faded to -60 dB
    of full scale, with a fade of 50 ms.

    Args:
        sound: `(frames, channels)`; it is read in pieces and may be mapped from a file.
        unit: the value of `sound` that counts as full scale.
        path: the file to write: MP3 if its name ends in .mp3, else WAV.
        sample_rate: in Hz.

    Raises:
        AudioError: the package that writes MP3 is missing, or can't write such a sound.
        OSError: the file can't be written.
    """
    channels, chunks = sound.shape[1], _master(sound, unit, sample_rate)
    if path.suffix.lower() == ".mp3":
        _write_mp3(chunks, path, channels, sample_rate)
        return
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        for chunk in chunks:
            file.writeframes(chunk.tobytes())


def import_soundfile() -> ModuleType:
    """The package that writes MP3 files, which is not among those that midinet needs.

    Raises:
        AudioError: it is missing, or came without its library.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise AudioError(
            "MP3 files need the package soundfile: pip install soundfile, or take --wav"
        ) from error
    module: ModuleType = soundfile
    return module


def _write_mp3(chunks: Iterator[np.ndarray], path: Path, channels: int, sample_rate: int) -> None:
    soundfile = import_soundfile()
    try:
        with soundfile.SoundFile(path, "w", sample_rate, channels, format="MP3") as file:
            for chunk in chunks:
                # libsndfile 1.2.2 distorts 16-bit stereo on its way to MP3, but not float32.
                file.write(chunk.astype(np.float32) / 32768)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: no MP3 of {sample_rate} Hz can be written: {error}") from error


def _master(sound: np.ndarray, unit: float, sample_rate: int) -> Iterator[np.ndarray]:
    """The sound as it goes into a file, in pieces of `(frames, channels)` int16."""
    block = max(1, round(_PEAK_BLOCK_S * sample_rate))
    peaks = _block_peaks(sound, unit, block, sample_rate)
    # Measured relative to the peak, since the standard's absolute gate suits finished recordings.
    peak = max(float(peaks.max()), 1e-9)
    gain = 10 ** ((TARGET_LUFS - loudness(sound, unit * peak, sample_rate)) / 20) / peak
    gain = min(gain, _MAX_GAIN)
    audible = np.flatnonzero(peaks * gain > 10 ** (_END_DB / 20))
    end = min((int(audible[-1]) + 1) * block, len(sound)) if len(audible) else len(sound)
    fade = round(_FADE_S * sample_rate)
    end = min(end + fade, len(sound))
    gains = gain * _limiter(peaks * gain)
    centres = (np.arange(len(gains)) + 0.5) * block
    for first, chunk in _chunks(sound[:end], unit, _CHUNK_S * sample_rate):
        frames = np.arange(first, first + len(chunk))
        factor = np.interp(frames, centres, gains) * np.clip((end - frames) / fade, 0, 1)
        scaled = np.clip(chunk * factor[:, None].astype(np.float32), -PEAK, PEAK)
        yield np.rint(scaled * 32767).astype("<i2")


def loudness(sound: np.ndarray, unit: float, sample_rate: int) -> float:
    """The integrated loudness in LUFS (decibels of full scale, weighted as ears do).

    Returns:
        The loudness; the gate's -70 for silence.

    Source: ITU-R BS.1770-4, with blocks that do not overlap and the weighting applied to each
    block's spectrum.
    """
    size = round(_GATE_BLOCK_S * sample_rate)
    weights = _k_weighting(np.fft.rfftfreq(size, 1 / sample_rate)) * 2 / size**2
    powers = []
    for _, chunk in _chunks(sound, unit, size * max(1, round(_CHUNK_S / _GATE_BLOCK_S))):
        blocks = np.zeros((-(-len(chunk) // size) * size, chunk.shape[1]), np.float32)
        blocks[: len(chunk)] = chunk
        spectra = np.abs(np.fft.rfft(blocks.reshape(-1, size, chunk.shape[1]), axis=1)) ** 2
        powers.append(np.einsum("bfc,f->b", spectra, weights))
    power = np.concatenate([*powers, np.zeros(1)])
    gated = power[power > 10 ** ((_ABSOLUTE_GATE_LUFS + 0.691) / 10)]
    if not len(gated):
        return _ABSOLUTE_GATE_LUFS
    gated = gated[gated > gated.mean() * 10 ** (_RELATIVE_GATE_DB / 10)]
    return 10 * math.log10(gated.mean()) - 0.691


def _k_weighting(hertz: np.ndarray) -> np.ndarray:
    """The power response of BS.1770's two filters: a shelf for the head, a high-pass for ears."""
    s = 1j * hertz / 1681.97
    high, band = 10 ** (3.99984 / 20), (10 ** (3.99984 / 20)) ** 0.49967
    shelf = (high * s**2 + band / 0.70718 * s + 1) / (s**2 + s / 0.70718 + 1)
    s = 1j * hertz / 38.1355
    high_pass = s**2 / (s**2 + s / 0.50033 + 1)
    return np.asarray(np.abs(shelf * high_pass) ** 2)


def _block_peaks(sound: np.ndarray, unit: float, block: int, sample_rate: int) -> np.ndarray:
    """The highest amplitude of each block, over all channels."""
    peaks = []
    for _, chunk in _chunks(sound, unit, block * round(_CHUNK_S * sample_rate / block)):
        starts = np.arange(0, len(chunk), block)
        peaks.append(np.maximum.reduceat(np.abs(chunk).max(axis=1), starts))
    return np.concatenate([*peaks, np.zeros(1, np.float32)])


def _limiter(peaks: np.ndarray) -> np.ndarray:
    """The gain of each block, 1 or less, that keeps peaks below `PEAK` without sudden changes."""
    gains = np.minimum(1, PEAK / np.maximum(peaks, PEAK))
    width = 2 * _RELEASE_BLOCKS + 1
    # The lowest gain nearby, then the mean of those: never above what a block itself needs.
    padded = np.pad(gains, 2 * _RELEASE_BLOCKS, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, width).min(axis=1)
    return np.convolve(lowest, np.full(width, 1 / width), mode="valid")


def _chunks(sound: np.ndarray, unit: float, frames: int) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of sound with their first frame, as float32 with full scale 1: an hour is 1.3 GB."""
    for first in range(0, len(sound), frames):
        yield first, sound[first : first + frames].astype(np.float32) / np.float32(unit)
