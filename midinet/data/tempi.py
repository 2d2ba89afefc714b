"""The tempos of a data set's songs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from midinet.codec.decoding import elapsed_steps
from midinet.codec.vocabulary import STEP_MS
from midinet.data.corpus import Corpus
from midinet.midi.tempo_map import MIN_GRID_SHARE

MAX_TEMPOS = 1000  # that a model folder keeps


def song_tempos_bpm(corpus: Corpus, songs: Iterable[int]) -> list[float]:
    """The tempo of each song that keeps to the grid of its tempo map, in ascending order.

    Of a song with several tempos it is the one that lasts longest.

    Args:
        corpus: an open data set.
        songs: the indices of the songs. Of more than MAX_TEMPOS tempos, evenly spaced ones are
            returned.

    Returns:
        Quarter notes per minute, rounded to 0.01.
    """
    tempos = sorted(
        _main_tempo_bpm(corpus, int(song))
        for song in songs
        if corpus.grid_shares[song] >= MIN_GRID_SHARE
    )
    chosen = np.linspace(0, len(tempos) - 1, min(len(tempos), MAX_TEMPOS)).astype(int)
    return [tempos[index] for index in chosen]


def _main_tempo_bpm(corpus: Corpus, song: int) -> float:
    tempo_map = corpus.tempo_map(song)
    assert tempo_map is not None  # or it would have no grid
    end_ms = int(elapsed_steps(corpus.song(song))[-1]) * STEP_MS
    lengths_ms = np.diff(np.minimum(tempo_map.ms, end_ms), append=end_ms)
    tempos, which = np.unique(tempo_map.us_per_beat, return_inverse=True)
    longest = np.argmax(np.bincount(which.ravel(), lengths_ms))
    return round(60e6 / float(tempos[longest]), 2)
