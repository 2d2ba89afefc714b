"""Does the band listen? How well composed parts fit the instrument that they accompany.

    python benchmarks/accompany.py FOLDER          held-out songs, some minutes
    python benchmarks/accompany.py FOLDER -s MODEL --pieces 4 --seconds 60

FOLDER holds MIDI files on which the model was neither trained nor chosen. Of the beginning of each
song one melodic instrument is kept, the highest of those that play at least a tenth of the notes,
and `generate.py --accompany` composes others. They are compared with the real other parts of the
song, the upper end, and with what was composed for the song whose tempo is most similar, the lower
end: parts that can't have listened. Each song counts once, with the mean of its pieces.

The measures:

- consonant: of all pairs of a note and a kept one that sounds when it begins, the share whose
  interval is a unison, third, fourth, fifth, sixth or octave;
- in the key: the share of notes in the major scale that most of the kept notes belong to (of all
  such scales on average, if several fit equally well);
- on the beats: the share of onsets within 12 ms of a sixteenth or a triplet of the song's beats,
  for songs whose kept notes lie there themselves;
- where it rests: by how much the parts play more while the kept instrument has been silent for a
  beat than elsewhere: the logarithm to base 2 of the ratio of onsets per second, for songs in which
  it rests for a tenth of the time at least.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402

import midinet  # noqa: E402
from midinet.folders import midi_files  # noqa: E402
from midinet.midi.general_midi import program_name  # noqa: E402
from midinet.midi.notes import Notes  # noqa: E402
from midinet.midi.tempo_map import MIN_GRID_SHARE, TempoMap  # noqa: E402

CONSONANT = (0, 3, 4, 5, 7, 8, 9)  # semitones, octaves left out
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MIN_KEPT_SHARE = 0.1  # of the melodic notes
MIN_NOTES = 20
MIN_REST_SHARE = 0.1
STEP_MS = 50.0  # of looking for rests


class Case(NamedTuple):
    """A song of which one instrument is kept.

    Attributes:
        path: its file.
        program: the instrument.
        kept: its notes; time counts from the song's first onset in all arrays of notes.
        others: the real other parts, up to the last kept note.
        beats: the song's beats.
        composed: for each piece what was composed for it.
    """

    path: Path
    program: int
    kept: Notes
    others: Notes
    beats: TempoMap
    composed: list[Notes]

    @property
    def bpm(self) -> float:
        """The tempo in the middle, in quarter notes per minute."""
        middle = self.beats.ms.searchsorted(self.kept.duration_ms / 2, side="right") - 1
        return 60e6 / float(self.beats.us_per_beat[max(0, middle)])


def open_case(path: Path, seconds: float) -> Case | None:
    """Chooses the instrument to keep of a song's beginning; None if there is none."""
    song = midinet.read_midi(path)
    if not len(song) or song.tempo_map is None:
        return None
    begin_ms = song.start_ms.min()
    beats = song.tempo_map.since(begin_ms)
    song = cut(song, begin_ms, seconds * 1000)
    melodic = song[~song.is_drum]
    programs, counts = np.unique(melodic.program, return_counts=True)
    possible = programs[counts >= max(MIN_NOTES, MIN_KEPT_SHARE * len(melodic))]
    if not len(possible):
        return None
    program = max(possible, key=lambda p: melodic.pitch[melodic.program == p].mean())
    is_kept = (song.program == program) & ~song.is_drum
    kept, others = song[is_kept], cut(song[~is_kept], 0.0, song[is_kept].end_ms.max())
    if len(others) < MIN_NOTES:
        return None
    return Case(path, int(program), kept, others, beats, [])


def cut(notes: Notes, begin_ms: float, length_ms: float) -> Notes:
    """The notes that begin within a stretch of time, which becomes time 0."""
    notes = notes[(notes.start_ms >= begin_ms) & (notes.start_ms < begin_ms + length_ms)]
    return dataclasses.replace(
        notes, start_ms=notes.start_ms - begin_ms, end_ms=notes.end_ms - begin_ms
    )


def compose(case: Case, options: argparse.Namespace) -> None:
    """Lets the model compose the other parts of a song."""
    with tempfile.TemporaryDirectory() as folder:
        paths = midinet.generate(
            save_directory=options.save_directory,
            accompany=case.path,
            keep=str(case.program),
            seconds=options.seconds,
            num=options.pieces,
            seed=options.seed,
            output=folder,
            temperature=options.temperature,
            top_p=options.top_p,
            progress=False,
        )
        begin_ms = midinet.read_midi(case.path).start_ms.min()
        for path in paths:
            notes = midinet.read_midi(path)
            notes = notes[(notes.program != case.program) | notes.is_drum]
            case.composed.append(cut(notes, begin_ms, case.kept.end_ms.max()))


def consonance(case: Case, notes: Notes) -> float:
    """Share of the pairs of a note and a kept note that sounds at its onset."""
    notes = notes[~notes.is_drum]
    onset = notes.start_ms[:, None]
    sounds = (case.kept.start_ms <= onset) & (onset < case.kept.end_ms)
    interval = np.abs(notes.pitch[:, None].astype(int) - case.kept.pitch.astype(int)) % 12
    return share(np.isin(interval, CONSONANT)[sounds])


def key_share(case: Case, notes: Notes) -> float:
    """Share of the notes in the scale of the kept ones."""
    pitches = notes.pitch[~notes.is_drum].astype(int)
    scales = [(root + np.array(MAJOR)) % 12 for root in range(12)]
    fits = np.array([np.isin(case.kept.pitch % 12, scale).sum() for scale in scales])
    best = [scale for scale, fit in zip(scales, fits, strict=True) if fit == fits.max()]
    return float(np.mean([share(np.isin(pitches % 12, scale)) for scale in best]))


def beat_share(case: Case, notes: Notes) -> float:
    """Share of the onsets on the grid of the song's beats."""
    if case.beats.grid_share(case.kept.start_ms) < MIN_GRID_SHARE or not len(notes):
        return np.nan
    return case.beats.grid_share(notes.start_ms)


def rest_change(case: Case, notes: Notes) -> float:
    """How much more the parts play where the kept instrument rests."""
    steps = np.arange(0.0, case.kept.end_ms.max(), STEP_MS)
    beat_ms = 60_000 / case.bpm
    rests = ~(
        (case.kept.start_ms <= steps[:, None]) & (steps[:, None] < case.kept.end_ms + beat_ms)
    ).any(axis=1)
    if not MIN_REST_SHARE <= rests.mean() <= 1 - MIN_REST_SHARE:
        return np.nan
    at = np.minimum((notes.start_ms / STEP_MS).astype(int), len(steps) - 1)
    onsets = np.bincount(at, minlength=len(steps))
    # Half an onset more on either side, so that a silence stays finite.
    rates = [(onsets[where].sum() + 0.5) / where.sum() for where in (rests, ~rests)]
    return float(np.log2(rates[0] / rates[1]))


def num_instruments(case: Case, notes: Notes) -> float:
    """How many instruments there are besides the kept one."""
    return float(len(np.unique(notes.program[~notes.is_drum])) + notes.is_drum.any())


MEASURES: dict[str, Callable[[Case, Notes], float]] = {
    "consonant": consonance,
    "in the key": key_share,
    "on the beats": beat_share,
    "where it rests (log2)": rest_change,
    "instruments": num_instruments,
    "notes per second": lambda case, notes: len(notes) / case.kept.end_ms.max() * 1000,
}


def share(mask: np.ndarray) -> float:
    """The share of what is marked; NaN of nothing."""
    return float(mask.mean()) if mask.size else np.nan


def most_similar(case: Case, cases: list[Case]) -> Case:
    """The other song whose tempo is nearest."""
    others = [other for other in cases if other is not case]
    return min(others, key=lambda other: abs(np.log(other.bpm / case.bpm)))


def with_error(values: np.ndarray) -> str:
    """Mean and standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.2f} ± {error:.2f}"


def show(cases: list[Case]) -> None:
    """Prints the table."""
    print("| measure | songs | real parts | composed | for another song | composed is nearer by |")
    print("|---|---|---|---|---|---|")
    for name, measure in MEASURES.items():
        rows = []
        for case in cases:
            length_ms = case.kept.end_ms.max()
            for_other = [cut(n, 0.0, length_ms) for n in most_similar(case, cases).composed]
            sets = ([case.others], case.composed, for_other)
            rows.append(
                [np.mean([measure(case, notes) for notes in notes_of]) for notes_of in sets]
            )
        table = np.array(rows)
        table = table[np.isfinite(table).all(axis=1)]
        if not len(table):
            print(f"| {name} | 0 | | | | |")
            continue
        real, composed, other = table.T
        nearer = np.abs(other - real) - np.abs(composed - real)
        cells = map(with_error, (real, composed, other, nearer))
        print(f"| {name} | {len(table)} | {' | '.join(cells)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="MIDI files that the model does not know")
    parser.add_argument("-s", "--save_directory", type=Path, help="a model (default: as generate)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each song (default: 40)")
    parser.add_argument("--pieces", type=int, default=2, help="for each song (default: 2)")
    parser.add_argument("--temperature", type=float, help="(default: as generate.py)")
    parser.add_argument("--top_p", type=float, help="(default: as generate.py)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: 1)")
    options = parser.parse_args()
    contents = {path.read_bytes(): path for path in midi_files(options.folder)}  # no copies
    cases = [open_case(path, options.seconds) for path in sorted(contents.values())]
    usable = [case for case in cases if case is not None]
    if len(usable) < 2:
        parser.error(f"{options.folder} has fewer than two songs with a part to keep and others")
    for case in usable:
        compose(case, options)
        kept = f"{program_name(case.program)} kept, {len(case.kept)} notes"
        print(f"{case.path.name}: {kept}, {len(case.composed[0])} composed", flush=True)
    print()
    show(usable)
    return 0


if __name__ == "__main__":
    sys.exit(main())
