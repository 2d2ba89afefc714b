"""How well and how fast near copies are found: python benchmarks/near_copies.py [FOLDER]

With a folder of MIDI files: the families in it, then how many revisions made of its songs are
found and how many of the pairs found are false. Then time, memory and the same shares for made-up
songs, 178,000 unless told otherwise, one in ten of which is a revision of another.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402

from midinet import MidiError, read_midi  # noqa: E402
from midinet.data.near_copies import find_families, signature, similar_pairs  # noqa: E402
from midinet.folders import midi_files  # noqa: E402
from midinet.midi.notes import Notes  # noqa: E402

CHANGED_SHARE = 0.1
BAR_MS = 2000.0
NUM_VOICES, VOICE_NOTES, PHRASE_NOTES = 4, 240, 16  # of a made-up song
SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how near copies are found.")
    parser.add_argument("folder", type=Path, nargs="?", help="folder of MIDI files")
    parser.add_argument("--songs", type=int, default=178_000, help="made-up songs")
    args = parser.parse_args()
    if args.folder:
        real_songs(args.folder)
    made_up_songs(args.songs)
    return 0


def transposed(notes: Notes, random: np.random.Generator) -> Notes:
    semitones = int(random.choice([-5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6]))
    pitch = np.where(notes.is_drum, notes.pitch, np.clip(notes.pitch + np.int16(semitones), 0, 127))
    return dataclasses.replace(notes, pitch=pitch.astype(np.uint8))


def stretched(notes: Notes, random: np.random.Generator) -> Notes:
    """Another tempo, written on a grid of 10 ms."""
    factor = random.uniform(0.7, 1.4)
    start, end = (np.rint(at * factor / 10) * 10 for at in (notes.start_ms, notes.end_ms))
    return dataclasses.replace(notes, start_ms=start, end_ms=end)


def with_changed_notes(notes: Notes, random: np.random.Generator) -> Notes:
    is_changed = (random.random(len(notes)) < CHANGED_SHARE) & ~notes.is_drum
    semitones = random.choice(np.array([-7, -5, -3, -2, -1, 1, 2, 3, 5, 7]), len(notes))
    pitch = np.clip(notes.pitch + np.where(is_changed, semitones, 0), 0, 127)
    return dataclasses.replace(notes, pitch=pitch.astype(np.uint8))


def with_a_bar_cut(notes: Notes, random: np.random.Generator) -> Notes:
    cut = random.uniform(0, max(0.0, notes.duration_ms - BAR_MS))
    kept = notes[(notes.start_ms < cut) | (notes.start_ms >= cut + BAR_MS)]
    shift = np.where(kept.start_ms >= cut, BAR_MS, 0.0)
    return dataclasses.replace(kept, start_ms=kept.start_ms - shift, end_ms=kept.end_ms - shift)


def all_at_once(notes: Notes, random: np.random.Generator) -> Notes:
    for change in (transposed, stretched, with_changed_notes, with_a_bar_cut):
        notes = change(notes, random)
    return notes


REVISIONS: list[Callable[[Notes, np.random.Generator], Notes]] = [
    transposed,
    stretched,
    with_changed_notes,
    with_a_bar_cut,
    all_at_once,
]


def real_songs(folder: Path) -> None:
    """Prints the families of a folder and how many revisions made of its songs are found."""
    songs: dict[str, Notes] = {}
    for file in sorted(midi_files(folder)):
        try:
            songs[file.relative_to(folder).as_posix()] = read_midi(file)
        except MidiError as error:
            print(error)
    names = list(songs)
    begin = time.process_time()
    signatures = np.array([signature(notes) for notes in songs.values()])
    seconds = time.process_time() - begin
    families = find_families(signatures)
    print(f"{len(songs)} songs, {1000 * seconds / len(songs):.2f} ms per signature; families:")
    for leader in np.flatnonzero(np.bincount(families, minlength=len(songs)) > 1):
        print("  " + "  |  ".join(names[song] for song in np.flatnonzero(families == leader)))
    # Songs with too few phrases to be compared have no signature.
    comparable = np.flatnonzero(signatures.any(axis=1))
    print(f"{len(songs) - len(comparable)} songs are too short to be compared")
    for change in REVISIONS:
        random = np.random.default_rng(0)
        revised = [signature(change(songs[names[song]], random)) for song in comparable]
        pairs, _ = similar_pairs(np.concatenate([signatures, revised]))
        source = np.concatenate([np.arange(len(songs)), comparable])
        report(change.__name__, pairs, source, families, len(comparable))


def report(
    name: str, pairs: np.ndarray, source: np.ndarray, families: np.ndarray, revisions: int
) -> None:
    """Prints the share of revisions that were found as a pair, and of the pairs that are false."""
    one, other = source[pairs].T
    found = np.count_nonzero(one == other) / revisions
    false = np.count_nonzero(families[one] != families[other]) / max(1, len(pairs))
    print(f"{name:<20}{found:>8.1%} of {revisions:,} found, {false:.2%} of the pairs false")


def made_up_song(random: np.random.Generator) -> Notes:
    """Four instruments that play phrases in a key, each phrase several times."""
    voices = []
    for voice in range(NUM_VOICES):
        shape = (VOICE_NOTES // PHRASE_NOTES // 2, PHRASE_NOTES)
        steps = random.choice([-3, -2, -1, -1, 0, 1, 1, 2, 4], shape)
        lengths = random.choice([125.0, 250.0, 250.0, 500.0], shape)
        chosen = random.integers(shape[0], size=VOICE_NOTES // PHRASE_NOTES)
        degree = np.cumsum(steps, axis=1)[chosen].ravel() % 14 + 7 * voice
        pitch = 36 + SCALE[degree % 7] + 12 * (degree // 7)
        length = lengths[chosen].ravel()
        start = np.cumsum(length) - length
        voices.append((start, start + length, np.full(VOICE_NOTES, 16 * voice), pitch))
    start, end, program, pitch = (np.concatenate(parts) for parts in zip(*voices, strict=True))
    order = np.argsort(start, kind="stable")
    num_notes = len(order)
    return Notes(
        start[order],
        end[order],
        program[order].astype(np.uint8),
        pitch[order].astype(np.uint8),
        np.full(num_notes, 80, np.uint8),
        np.zeros(num_notes, bool),
    )


def made_up_songs(count: int) -> None:
    """Prints time, memory and the shares found and false over many made-up songs."""
    random = np.random.default_rng(0)
    num_originals = count - count // 10
    signatures = []
    seconds = 0.0
    source = np.append(np.arange(num_originals), random.permutation(num_originals)[: count // 10])
    for song, original in enumerate(source.tolist()):
        notes = made_up_song(np.random.default_rng(original))
        if song >= num_originals:
            notes = REVISIONS[song % len(REVISIONS)](notes, random)
        begin = time.process_time()
        signatures.append(signature(notes))
        seconds += time.process_time() - begin
    table = np.array(signatures)
    del signatures
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count:,} made-up songs: signatures {seconds:.0f} s, {table.nbytes / 1e6:.0f} MB")
    begin = time.perf_counter()
    families = find_families(table)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - memory
    num_families = np.count_nonzero(np.bincount(families) > 1)
    print(
        f"find_families: {time.perf_counter() - begin:.0f} s, {grown:.0f} MB more; "
        f"{num_families:,} families, the largest of {np.bincount(families).max()}"
    )
    report("all revisions", similar_pairs(table)[0], source, np.arange(count), count // 10)


if __name__ == "__main__":
    sys.exit(main())
