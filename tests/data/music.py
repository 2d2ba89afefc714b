"""Music in memory for tests of windows and batches."""

from __future__ import annotations

import numpy as np

from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM
from midinet.data.song_notes import NotesCache, read_excerpts, read_notes
from midinet.data.windows import write_windows
from midinet.midi.notes import Notes


class FakeCorpus:
    """Songs in memory that, like a memory map, can't be written to."""

    def __init__(self, songs, drum_program=DRUM_PROGRAM, tempo_map=None):
        self.codec = CodecSettings(drum_program=drum_program)
        self.offsets = np.cumsum([0, *map(len, songs)]).astype(np.int64)
        self.tokens = np.concatenate([np.array(s, dtype=np.uint16) for s in songs])
        self.tokens.flags.writeable = False
        self.grid_shares = [float(tempo_map is not None)] * len(songs)
        self.notes = NotesCache(lambda index: read_notes(self.song(index), drum_program))
        self._tempo_map = tempo_map

    def __len__(self):
        return len(self.offsets) - 1

    def song(self, index):
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def tempo_map(self, index):
        return self._tempo_map


LENGTHS_MS = (10, 120, 990, 1000, 3000, 20_000)


def make_notes(seed, num_notes=300, lengths_ms=LENGTHS_MS):
    """Notes of four instruments, many of them at once, some of them long."""
    random = np.random.default_rng(seed)
    pauses = random.choice([0, 10, 20, 250, 480, 1000, 2510], size=num_notes)
    start_ms = (np.cumsum(pauses) - pauses[0]).astype(float)
    return Notes(
        start_ms=start_ms,
        end_ms=start_ms + random.choice(lengths_ms, size=num_notes),
        program=random.choice([0, 33, 48], size=num_notes).astype(np.uint8),
        pitch=random.integers(20, 100, size=num_notes).astype(np.uint8),
        velocity=random.integers(1, 128, size=num_notes).astype(np.uint8),
        is_drum=random.random(num_notes) < 0.3,
    )


def make_corpus(num_songs=6, **options):
    """Encoded songs of 20 to 300 notes."""
    sizes = np.random.default_rng(7).integers(20, 300, size=num_songs)
    songs = [encode(make_notes(seed, size)) for seed, size in enumerate(sizes)]
    return FakeCorpus(songs, **options)


def read_excerpt(song, start, stop, past_steps=0):
    """A single excerpt of the notes of a song."""
    return read_excerpts([song], np.array([start]), np.array([stop]), past_steps)


def write_window(excerpt, drum_program, max_restated):
    """The window of a single excerpt."""
    (window,) = write_windows(excerpt, drum_program, max_restated)
    return window
