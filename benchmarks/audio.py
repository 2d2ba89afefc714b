"""Compares the project's own SoundFont player with FluidSynth, with the same font.

    python benchmarks/audio.py MIDI_FOLDER [--pieces 20] [--minutes 3]

It prints how the loudness of each program and of the drum kit differs, how alike real pieces
sound (the correlation of the loudness over time, in blocks of 50 ms, and of spectrograms in 40
logarithmic bands), and how fast each player is.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.folders import midi_files
from midinet.midi.general_midi import program_name
from midinet.midi.notes import Notes
from midinet.midi.writer import notes_to_midi
from midinet.rendering.soundfont import find_bundled_soundfont, read_soundfont
from midinet.rendering.synthesizer import render

RATE_HZ = 44100
BLOCK = 2205  # 50 ms
FRAME = 2048


def main() -> None:
    """Prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of MIDI files")
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=3, help="longest part of a piece")
    parser.add_argument("--dry", action="store_true", help="FluidSynth without reverb and chorus")
    arguments = parser.parse_args()
    if shutil.which("fluidsynth") is None:
        sys.exit("the program fluidsynth is not installed")
    font_path = find_bundled_soundfont()
    font = read_soundfont(font_path)
    compare_instruments(font, font_path, arguments.dry)
    compare_pieces(font, font_path, arguments)


def compare_instruments(font, font_path, dry) -> None:
    """Prints how much louder than FluidSynth each instrument is, after removing the mean."""
    cases = [(program, False) for program in range(128)] + [(0, True)]
    differences = []
    for program, is_drum in cases:
        notes = phrase(program, is_drum)
        ours = decibels(render(notes, font))
        theirs = decibels(fluidsynth(notes, font_path, dry)[0])
        differences.append(ours - theirs)
    differences = np.array(differences) - np.median(differences)
    worst = np.argsort(-np.abs(differences))[:8]
    print(f"loudness of {len(cases)} instruments against FluidSynth:")
    print(
        f"  within {np.abs(differences).max():.2f} dB, median {np.median(np.abs(differences)):.2f}"
    )
    for index in worst:
        program, is_drum = cases[index]
        name = f"drum kit {program}" if is_drum else program_name(program)
        print(f"  {differences[index]:+.2f} dB  {name} ({program})")


def compare_pieces(font, font_path, arguments) -> None:
    """Prints how alike pieces sound, and the speed of both players."""
    print("piece; correlation of loudness, of spectrograms; speed of ours, of FluidSynth")
    rows = []
    for path in pick(sorted(midi_files(arguments.folder)), arguments.pieces):
        notes = as_composed(path, arguments.minutes * 60)
        if not len(notes):
            continue
        started = time.perf_counter()
        ours = render(notes, font)
        seconds = time.perf_counter() - started
        theirs, their_seconds = fluidsynth(notes, font_path, arguments.dry)
        music_s = notes.duration_ms / 1000
        row = (*alike(ours, theirs), music_s / seconds, music_s / their_seconds)
        rows.append(row)
        print(as_line(path.stem, row), flush=True)
    for name, function in (("median", statistics.median), ("least", min)):
        row = [function(column) for column in zip(*rows, strict=True)]
        print(as_line(name, row))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory of this process: {peak:.0f} MB")


def as_line(name: str, row) -> str:
    """One row of the table."""
    return f"  {name[:32]:32}  {row[0]:.3f}  {row[1]:.3f}  {row[2]:5.0f}  {row[3]:5.0f}"


def pick(paths: list[Path], count: int) -> list[Path]:
    """Takes files at equal distances."""
    return [paths[i * len(paths) // count] for i in range(min(count, len(paths)))]


def phrase(program: int, is_drum: bool) -> Notes:
    """A scale of short and long notes, or all drums one after the other."""
    pitches = np.arange(35, 60) if is_drum else np.array([48, 55, 60, 64, 67, 72, 60, 48])
    start = 400.0 * np.arange(len(pitches))
    length = np.where(np.arange(len(pitches)) % 2, 350.0, 200.0)
    velocity = np.full(len(pitches), 100, np.uint8)
    return Notes(
        start,
        start + length,
        np.full(len(pitches), program, np.uint8),
        pitches.astype(np.uint8),
        velocity,
        np.full(len(pitches), is_drum),
    )


def as_composed(path: Path, seconds: float) -> Notes:
    """The notes of a file as midinet writes them: on its grid, without controllers."""
    notes = tokens_to_notes(encode(path))
    return notes[notes.start_ms < seconds * 1000]


def fluidsynth(notes: Notes, font: Path, dry: bool) -> tuple[np.ndarray, float]:
    """FluidSynth's sound, `(2, frames)`, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "x.mid", Path(folder) / "x.wav"
        notes_to_midi(notes).save(midi)
        command = ["fluidsynth", "-niq", "-g", "0.08", "-r", str(RATE_HZ), "-T", "wav", "-O", "s32"]
        command += ["-R", "0", "-C", "0"] if dry else []
        started = time.perf_counter()
        subprocess.run(
            [*command, "-F", str(wav), str(font), str(midi)], check=True, capture_output=True
        )
        seconds = time.perf_counter() - started
        with wave.open(str(wav)) as file:
            data = np.frombuffer(file.readframes(file.getnframes()), "<i4")
    return data.reshape(-1, 2).T.astype(np.float32) / 2**31, seconds


def decibels(sound: np.ndarray) -> float:
    """The energy of a sound, in decibels."""
    return 10 * np.log10(np.square(sound, dtype=np.float64).sum() + 1e-20)


def alike(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The correlations of loudness over time and of spectrograms in 40 bands, both in decibels."""
    frames = min(ours.shape[1], theirs.shape[1])
    loudness, spectra = [], []
    for sound in (ours[:, :frames], theirs[:, :frames]):
        blocks = sound[:, : frames // BLOCK * BLOCK].reshape(2, -1, BLOCK)
        power = np.square(blocks).mean(axis=(0, 2))
        loudness.append(in_decibels(power, 60))
        spectra.append(in_decibels(spectrogram(sound.mean(axis=0)), 60))
    return tuple(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in (loudness, spectra))


def spectrogram(mono: np.ndarray) -> np.ndarray:
    """Power in 40 logarithmic bands from 50 Hz to 16 kHz, for each half-overlapping frame."""
    frames = np.lib.stride_tricks.sliding_window_view(mono, FRAME)[:: FRAME // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2
    edges = np.geomspace(50, 16000, 41) * FRAME / RATE_HZ
    bins = np.maximum.accumulate(np.maximum(np.rint(edges).astype(int), np.arange(41) + 2))
    return np.add.reduceat(power, bins[:-1], axis=1)


def in_decibels(power: np.ndarray, depth_db: float) -> np.ndarray:
    """Decibels below the loudest, with a floor, so that silence does not decide."""
    level = 10 * np.log10(power / power.max() + 1e-20)
    return np.maximum(level, -depth_db)


if __name__ == "__main__":
    main()
