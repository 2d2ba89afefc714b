"""Finds out whether a piece quotes: which of its 4-second windows were heard somewhere before.

A passage is found in the way audio fingerprinting finds a song (Wang 2003, "An Industrial-Strength
Audio Search Algorithm"). A fingerprint is made of three notes in a row. The fingerprints of a
window are looked up in an index of all songs; those that agree on a song, a transposition and a
time vote for the same passage, and the passages with most votes are compared note by note.

A quote is defined as follows. Take the melodic notes that begin in a window of 4 seconds as points
(onset, pitch), whatever their instrument and length. The window is a quote if at least 80% of its
points lie within 50 ms of a point of the same pitch in one single passage elsewhere, where that
passage may be transposed as a whole by up to 6 semitones and stretched by up to 6%. Percussion is
ignored, because one drum beat is like another. Windows with fewer than 8 points or 4 pitches are
not judged, because they hold too little music.

This misses quotes of a melody alone above a new accompaniment, of a rhythm, and of chords in
another figuration, so a low share does not prove originality. Common phrases such as scales and
arpeggios count as quotes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midinet.codec.vocabulary import NUM_PITCHES
from midinet.midi.notes import Notes

WINDOW_S = 4.0
HOP_S = 1.0
MIN_MATCH = 0.8
MIN_POINTS, MIN_PITCHES = 8, 4
MAX_SEMITONES = 6
STRETCHES = np.arange(0.94, 1.0601, 0.01)

_TOLERANCE_S = 0.05
_CHORD_S = 0.03  # onsets closer than this belong to one chord
_MAX_FINGERPRINT_S = 4.0
# Durations in a fingerprint are quantised to classes 19% wide: more than a quote is stretched.
_CLASSES_PER_OCTAVE = 4
_NUM_CLASSES = 64
_VOTE_S = 0.1  # the fingerprints of one passage agree on its time within about this
_MAX_PASSAGES = 8
# The index rounds durations to the nearest class. Stretched, a duration near the edge of a class
# falls into the next one, so a query tries each of its two durations rounded down and up.
_QUERY_ROUNDINGS = (np.floor, np.ceil)
_FINGERPRINTS_PER_QUERY = len(_QUERY_ROUNDINGS) ** 2
_MAX_VOTES = 100_000  # per window; its rarest fingerprints vote first, as they tell most
_PITCH_SPACING_S = 1e6  # longer than any song: see _sort_key


class _Fingerprints(NamedTuple):
    """Groups of three notes in a row, as arrays of one length."""

    key: np.ndarray  # two intervals and the classes of two durations, as one number
    time_s: np.ndarray  # of the first note
    pitch: np.ndarray  # of the first note


class _Votes(NamedTuple):
    """Fingerprints of a window that were found in the index, as arrays of one length."""

    time_s: np.ndarray  # in the piece
    song: np.ndarray
    semitones: np.ndarray  # from the piece up to the song
    shift_s: np.ndarray  # from the time in the piece to the time in the song


class _Passage(NamedTuple):
    """A place that a window may come from."""

    song: int
    semitones: int
    window_time_s: float
    song_time_s: float  # the time in the song that corresponds to window_time_s


class PassageIndex:
    """An index of songs in which passages can be found.

    Args:
        songs: the songs to search in.

    Example:
        >>> index = PassageIndex(training_songs)
        >>> index.quoted_share(piece)
        0.04
    """

    def __init__(self, songs: Sequence[Notes]):
        points = [_points(song) for song in songs]
        self._points = np.concatenate(
            [_sort_key(i, pitch, time) for i, (time, pitch) in enumerate(points)] or [np.empty(0)]
        )
        self._points.sort()
        of_songs = [_fingerprints(time, pitch) for time, pitch in points]
        key = np.concatenate([f.key for f in of_songs] or [np.empty(0, np.int64)])
        order = np.argsort(key, kind="stable")
        self._key = key[order]
        self._time_s = np.concatenate([f.time_s for f in of_songs] or [np.empty(0)])[order]
        self._pitch = np.concatenate([f.pitch for f in of_songs] or [np.empty(0, int)])[order]
        self._song = np.repeat(np.arange(len(of_songs)), [len(f.key) for f in of_songs])[order]

    def quoted_share(self, notes: Notes, left_out: int | None = None) -> float:
        """Returns the share of a piece's windows (4 s long, one per second) found in the songs.

        Args:
            notes: the piece.
            left_out: index of a song that does not count, because it is the piece itself.

        Returns:
            0 to 1; NaN if no window can be judged.
        """
        return self.found_share(
            notes, lambda v: (np.abs(v.semitones) <= MAX_SEMITONES) & (v.song != left_out)
        )

    def found_share(self, notes: Notes, accepts: Callable[[_Votes], Any]) -> float:
        """Returns the share of a piece's windows found in passages that `accepts` lets through.

        Args:
            notes: the piece.
            accepts: returns a mask of the votes that count.
        """
        time_s, pitch = _points(notes)
        fingerprints = _fingerprints(time_s, pitch, _QUERY_ROUNDINGS)
        is_quoted = []
        for begin_s in np.arange(0, time_s.max(initial=0.0), HOP_S):
            first, last = np.searchsorted(time_s, (begin_s, begin_s + WINDOW_S))
            window_s, window_pitch = time_s[first:last], pitch[first:last]
            if len(window_s) < MIN_POINTS or len(np.unique(window_pitch)) < MIN_PITCHES:
                continue
            inside = (fingerprints.time_s >= begin_s) & (fingerprints.time_s < begin_s + WINDOW_S)
            query = _Fingerprints(*(column[inside] for column in fingerprints))
            is_quoted.append(
                any(
                    self._match(window_s, window_pitch, passage) >= MIN_MATCH
                    for passage in _most_voted(self._votes(query, accepts))
                )
            )
        return sum(is_quoted) / len(is_quoted) if is_quoted else math.nan

    def _votes(self, query: _Fingerprints, accepts: Callable[[_Votes], Any]) -> _Votes:
        """Looks up a window's fingerprints; each occurrence in the songs is a vote."""
        asked, found = self._look_up(query.key)
        votes = _Votes(
            time_s=query.time_s[asked],
            song=self._song[found],
            semitones=self._pitch[found] - query.pitch[asked],
            shift_s=self._time_s[found] - query.time_s[asked],
        )
        is_accepted = accepts(votes)
        return _Votes(*(column[is_accepted] for column in votes))

    def _look_up(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds fingerprints in the index, the rarest first, until there are enough votes.

        Args:
            keys: `(F,)` of the query, made with `_QUERY_ROUNDINGS`.

        Returns:
            Two arrays of one length: indices of keys, and where in the index each was found.
        """
        first = np.searchsorted(self._key, keys, "left")
        count = np.searchsorted(self._key, keys, "right") - first
        # Either all roundings of a fingerprint vote or none: the one found in the right place is
        # often the most common of them, and the others alone would outvote it.
        count_by_rounding = count.reshape(_FINGERPRINTS_PER_QUERY, -1)
        total = count_by_rounding.sum(axis=0)
        rarest_first = np.argsort(total, kind="stable")
        votes_before = np.cumsum(total[rarest_first]) - total[rarest_first]
        count_by_rounding[:, rarest_first[votes_before >= _MAX_VOTES]] = 0
        asked = np.repeat(np.arange(len(keys)), count)
        rank = np.arange(len(asked)) - np.repeat(np.cumsum(count) - count, count)
        return asked, first[asked] + rank

    def _match(self, window_s: np.ndarray, window_pitch: np.ndarray, passage: _Passage) -> float:
        """Returns the share of a window's points that a passage has, at the best stretch."""
        pitch = window_pitch + passage.semitones
        valid = (pitch >= 0) & (pitch < NUM_PITCHES)
        from_middle_s = window_s[valid] - passage.window_time_s
        time_s = passage.song_time_s + STRETCHES[:, None] * from_middle_s
        wanted = _sort_key(passage.song, pitch[valid], time_s)
        after = np.searchsorted(self._points, wanted)
        distance_s = np.minimum(
            np.abs(self._points[np.minimum(after, len(self._points) - 1)] - wanted),
            np.abs(self._points[np.maximum(after - 1, 0)] - wanted),
        )
        return float((distance_s <= _TOLERANCE_S).sum(axis=1).max() / len(window_pitch))


def repeated_share(notes: Notes) -> float:
    """Returns the share of a piece's windows that it repeats elsewhere, in the same key."""
    return PassageIndex([notes]).found_share(
        notes, lambda v: (v.semitones == 0) & (np.abs(v.shift_s) >= WINDOW_S)
    )


def _most_voted(votes: _Votes) -> Iterator[_Passage]:
    """Groups votes by song, transposition and time; yields the groups with most votes first."""
    if not len(votes.song):
        return
    time = np.rint(votes.shift_s / _VOTE_S).astype(np.int64)
    axes = (votes.song, votes.semitones + NUM_PITCHES, time - time.min())
    group = np.ravel_multi_index(axes, tuple(int(axis.max()) + 1 for axis in axes))
    _, first_of_group, group = np.unique(group, return_index=True, return_inverse=True)
    for best in np.argsort(-np.bincount(group), kind="stable")[:_MAX_PASSAGES]:
        first = first_of_group[best]
        time_s = float(votes.time_s[group == best].mean())
        shift_s = float(votes.shift_s[group == best].mean())
        song, semitones = int(votes.song[first]), int(votes.semitones[first])
        yield _Passage(song, semitones, time_s, time_s + shift_s)


def _points(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Reduces a piece to its melodic onsets; the same pitch twice in a chord counts once.

    Returns:
        Onsets in seconds from the first note of the piece, ascending, and pitches.
    """
    melodic = notes[~notes.is_drum]
    time_s = (melodic.start_ms - notes.start_ms.min(initial=np.inf)) / 1000
    pitch = melodic.pitch.astype(np.int64)
    order = np.lexsort((time_s, pitch))
    time_s, pitch = time_s[order], pitch[order]
    is_new = np.ones(len(pitch), bool)
    is_new[1:] = (np.diff(pitch) != 0) | (np.diff(time_s) > _CHORD_S)
    time_s, pitch = time_s[is_new], pitch[is_new]
    order = np.lexsort((pitch, time_s))
    return time_s[order], pitch[order]


def _fingerprints(
    time_s: np.ndarray, pitch: np.ndarray, roundings: Sequence[np.ufunc] = (np.rint,)
) -> _Fingerprints:
    """Makes the fingerprints that begin at each point.

    The second note is the one of the next chord that is nearest in pitch, the third that of the
    chord after it. The nearest pitch mostly belongs to the same voice, so that adding or removing
    an instrument changes few fingerprints. The key holds intervals and classes of durations, and
    so is the same in every key and at nearly every tempo.

    Args:
        time_s: `(P,)` ascending.
        pitch: `(P,)`.
        roundings: how durations become classes; each pair of roundings gives a full set of keys.
    """
    chord = np.cumsum(np.diff(time_s, prepend=-np.inf) > _CHORD_S)
    second = _nearest_in_next_chord(chord, pitch, np.arange(len(pitch)))
    third = np.where(second >= 0, _nearest_in_next_chord(chord, pitch, second), -1)
    one = np.flatnonzero(third >= 0)
    two, three = second[one], third[one]
    is_short = time_s[three] - time_s[one] < _MAX_FINGERPRINT_S
    one, two, three = one[is_short], two[is_short], three[is_short]
    intervals = np.zeros(len(one), np.int64)
    for interval in (pitch[two] - pitch[one], pitch[three] - pitch[two]):
        intervals = intervals * 2 * NUM_PITCHES + interval + NUM_PITCHES
    first_class, second_class = (
        _CLASSES_PER_OCTAVE * np.log2(np.maximum(duration_s, _CHORD_S) / _CHORD_S)
        for duration_s in (time_s[two] - time_s[one], time_s[three] - time_s[two])
    )
    keys = [
        (intervals * _NUM_CLASSES + round_first(first_class).astype(np.int64)) * _NUM_CLASSES
        + round_second(second_class).astype(np.int64)
        for round_first, round_second in itertools.product(roundings, repeat=2)
    ]
    repeats = len(keys)
    return _Fingerprints(
        np.concatenate(keys), np.tile(time_s[one], repeats), np.tile(pitch[one], repeats)
    )


def _nearest_in_next_chord(chord: np.ndarray, pitch: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Returns for each asked point the point of the next chord nearest in pitch, or -1."""
    # Chord and pitch as one number, which ascends because points are sorted by time, then pitch.
    height = chord * 2 * NUM_PITCHES + pitch
    wanted = height[asked] + 2 * NUM_PITCHES
    above = np.minimum(np.searchsorted(height, wanted), len(height) - 1)
    below = np.maximum(above - 1, 0)
    is_above = np.abs(height[above] - wanted) < np.abs(height[below] - wanted)
    nearest = np.where(is_above, above, below)
    return np.where(chord[nearest] == chord[asked] + 1, nearest, -1)


def _sort_key(song: int, pitch: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Joins song, pitch and time in one number: one search finds the nearest point of a pitch."""
    key: np.ndarray = (song * NUM_PITCHES + pitch) * _PITCH_SPACING_S + time_s
    return key
