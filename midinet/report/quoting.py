"""Is music composing or quoting? Finds where 4 seconds of a piece were heard before.

A passage is found as audio fingerprinting finds a song (Wang 2003, "An Industrial-Strength Audio
Search Algorithm"): small figures of notes are looked up in an index, figures that agree on where
they come from make a candidate, and the candidate is then compared note by note.

What counts as a quote, exactly: the melodic notes that begin in a window of 4 seconds, whatever
their instrument and length, as points (onset, pitch). The window is a quote when at least 80% of
its points lie within 50 ms of a point of the same pitch in ONE passage of ONE other place, after
moving that passage as a whole by up to 6 semitones and stretching it by up to 6%: more than
training augments songs by. Percussion is not looked at (one drum beat is like another), and
windows with fewer than 8 points or 4 pitches are not judged: they say too little.

What this misses: quotes of a melody alone under a new accompaniment, of a rhythm, of chords in
another figuration; so a low share is no proof of originality. Stock phrases (scales, arpeggios)
count as quotes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from midinet.codec.vocabulary import NUM_PITCHES
from midinet.midi.notes import Notes

WINDOW_S = 4.0
HOP_S = 1.0
LEAST_MATCH = 0.8
LEAST_POINTS, LEAST_PITCHES = 8, 4
MOST_SEMITONES = 6
STRETCHES = np.arange(0.94, 1.0601, 0.01)

_TOLERANCE_S = 0.05
_CHORD_S = 0.03  # onsets nearer than this are one moment
_LONGEST_FIGURE_S = 4.0
_TIME_CLASSES_AN_OCTAVE = 4  # of the durations in a figure: 19% wide, more than music is stretched
_VOTE_S = 0.1  # figures of one passage agree on its place to about this
_CANDIDATES = 8
# Each of a figure's two durations, up and down: into whatever class it fell in the index.
_ASKED_ROUNDINGS = (np.floor, np.ceil)
_ROUNDINGS = len(_ASKED_ROUNDINGS) ** 2
_MOST_VOTES = 100_000  # of a window; its rarest figures vote first, as they tell places apart
_PITCH_RUN_S = 1e6  # lays the points of each pitch, then of each song, end to end in time


class _Figures(NamedTuple):
    """Three points of three moments in a row, as arrays of one length."""

    key: np.ndarray  # the two intervals and the classes of the two durations
    time_s: np.ndarray
    pitch: np.ndarray


class PassageIndex:
    """The points and figures of a collection of songs, ready to be searched.

    Args:
        songs: the collection.
    """

    def __init__(self, songs: Sequence[Notes]):
        points = [_points(song) for song in songs]
        # Sorted by song, pitch and time as one number, which a search needs.
        self._points = np.concatenate(
            [_line(i, pitch, time) for i, (time, pitch) in enumerate(points)] or [np.empty(0)]
        )
        self._points.sort()
        figures = [_figures(*song) for song in points]
        key = np.concatenate([f.key for f in figures] or [np.empty(0, np.int64)])
        order = np.argsort(key, kind="stable")
        self._key = key[order]
        self._time_s = np.concatenate([f.time_s for f in figures] or [np.empty(0)])[order]
        self._pitch = np.concatenate([f.pitch for f in figures] or [np.empty(0, int)])[order]
        self._song = np.repeat(np.arange(len(figures)), [len(f.key) for f in figures])[order]

    def quoted_share(self, notes: Notes, left_out: int | None = None) -> float:
        """The share of a piece's windows (4 s long, one each second) that the collection has.

        Args:
            notes: the piece.
            left_out: a song of the collection that does not count: the piece itself, say.

        Returns:
            0 to 1; NaN where no window can be judged.
        """

        def allows(song: np.ndarray, semitones: np.ndarray, shift_s: np.ndarray) -> np.ndarray:
            return (np.abs(semitones) <= MOST_SEMITONES) & (song != left_out)

        return self.share(notes, allows)

    def share(self, notes: Notes, allows: Callable[..., np.ndarray]) -> float:
        """The share of a piece's windows found in places that `allows` accepts.

        Args:
            notes: the piece.
            allows: from arrays of songs, semitones and shifts in seconds to a mask of those that
                count.
        """
        time_s, pitch = _points(notes)
        figures = _figures(time_s, pitch, _ASKED_ROUNDINGS)
        judged = quoted = 0
        for begin_s in np.arange(0, time_s.max(initial=0.0), HOP_S):
            first, last = np.searchsorted(time_s, (begin_s, begin_s + WINDOW_S))
            window_s, window_pitch = time_s[first:last], pitch[first:last]
            few = len(window_s) < LEAST_POINTS or len(np.unique(window_pitch)) < LEAST_PITCHES
            if few:
                continue
            judged += 1
            inside = (figures.time_s >= begin_s) & (figures.time_s < begin_s + WINDOW_S)
            candidates = self._candidates(_Figures(*(f[inside] for f in figures)), allows)
            quoted += any(
                self._match(window_s, window_pitch, *candidate) >= LEAST_MATCH
                for candidate in candidates
            )
        return quoted / judged if judged else math.nan

    def _candidates(
        self, figures: _Figures, allows: Callable[..., np.ndarray]
    ) -> list[tuple[int, int, float, float]]:
        """Where most figures of a window may come from: song, semitones, and a time in the window
        with the time in the song that goes with it."""
        low = np.searchsorted(self._key, figures.key, "left")
        count = np.searchsorted(self._key, figures.key, "right") - low
        # All roundings of a figure vote, or none: the one that is found in the right place is often
        # the most common, and the others would outvote it.
        of_figure = count.reshape(_ROUNDINGS, -1)
        total = of_figure.sum(axis=0)
        rarest_first = np.argsort(total, kind="stable")
        votes_before = np.cumsum(total[rarest_first]) - total[rarest_first]
        of_figure[:, rarest_first[votes_before >= _MOST_VOTES]] = 0
        asked = np.repeat(np.arange(len(count)), count)
        found = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + low[asked]
        semitones = self._pitch[found] - figures.pitch[asked]
        shift_s = self._time_s[found] - figures.time_s[asked]
        allowed = allows(self._song[found], semitones, shift_s)
        asked, found, semitones, shift_s = (
            votes[allowed] for votes in (asked, found, semitones, shift_s)
        )
        if not len(found):
            return []
        place = np.rint(shift_s / _VOTE_S).astype(np.int64)
        place = (self._song[found] << 40) + ((semitones + NUM_PITCHES) << 32) + place + (1 << 31)
        _, first, voted = np.unique(place, return_index=True, return_inverse=True)
        votes = np.bincount(voted)
        candidates = []
        for best in np.argsort(-votes, kind="stable")[:_CANDIDATES]:
            its_time_s = figures.time_s[asked[voted == best]].mean()
            its_shift_s = shift_s[voted == best].mean()
            one = first[best]
            song = int(self._song[found[one]])
            candidates.append((song, int(semitones[one]), its_time_s, its_time_s + its_shift_s))
        return candidates

    def _match(
        self,
        time_s: np.ndarray,
        pitch: np.ndarray,
        song: int,
        semitones: int,
        here_s: float,
        there_s: float,
    ) -> float:
        """The share of a window's points that a passage has, at the stretch that fits best."""
        there = pitch + semitones
        valid = (there >= 0) & (there < NUM_PITCHES)
        when = there_s + STRETCHES[:, None] * (time_s[valid] - here_s)
        wanted = _line(song, there[valid], when)
        after = np.searchsorted(self._points, wanted)
        nearest = np.minimum(
            np.abs(self._points[np.minimum(after, len(self._points) - 1)] - wanted),
            np.abs(self._points[np.maximum(after - 1, 0)] - wanted),
        )
        return float((nearest <= _TOLERANCE_S).sum(axis=1).max() / len(pitch))


def repeated_share(notes: Notes) -> float:
    """The share of a piece's windows that come again elsewhere in it, in the same key."""

    def allows(song: np.ndarray, semitones: np.ndarray, shift_s: np.ndarray) -> np.ndarray:
        return (semitones == 0) & (np.abs(shift_s) >= WINDOW_S)

    return PassageIndex([notes]).share(notes, allows)


def _points(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """The melodic notes as points in time order, those of one moment and pitch as one.

    Returns:
        Onsets in seconds from the first note, and pitches.
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


def _figures(
    time_s: np.ndarray, pitch: np.ndarray, roundings: Sequence[np.ufunc] = (np.rint,)
) -> _Figures:
    """From each point a figure: on to the nearest pitch of the next moment, and of the one after.

    The nearest pitch is most often the same voice, so an instrument more or less changes few
    figures. Intervals and classes of durations make the key, the same in every key and tempo;
    each way of rounding durations to classes makes figures of its own.
    """
    moment = np.cumsum(np.diff(time_s, prepend=-np.inf) > _CHORD_S)
    second = _nearest_in_next_moment(moment, pitch, np.arange(len(pitch)))
    third = np.where(second >= 0, _nearest_in_next_moment(moment, pitch, second), -1)
    one = np.flatnonzero(third >= 0)
    two, three = second[one], third[one]
    is_short = time_s[three] - time_s[one] < _LONGEST_FIGURE_S
    one, two, three = one[is_short], two[is_short], three[is_short]
    key = np.zeros(len(one), np.int64)
    for interval in (pitch[two] - pitch[one], pitch[three] - pitch[two]):
        key = key * 2 * NUM_PITCHES + interval + NUM_PITCHES
    first, second = (
        _TIME_CLASSES_AN_OCTAVE * np.log2(np.maximum(duration_s, _CHORD_S) / _CHORD_S)
        for duration_s in (time_s[two] - time_s[one], time_s[three] - time_s[two])
    )
    keys = [
        (key * 64 + round_first(first).astype(np.int64)) * 64
        + round_second(second).astype(np.int64)
        for round_first, round_second in itertools.product(roundings, repeat=2)
    ]
    copies = len(keys)
    return _Figures(np.concatenate(keys), np.tile(time_s[one], copies), np.tile(pitch[one], copies))


def _nearest_in_next_moment(moment: np.ndarray, pitch: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """For each asked point the index of the point of the next moment nearest in pitch, or -1."""
    line = moment * 2 * NUM_PITCHES + pitch  # ascending: points are sorted by time, then pitch
    wanted = line[asked] + 2 * NUM_PITCHES
    above = np.minimum(np.searchsorted(line, wanted), len(line) - 1)
    below = np.maximum(above - 1, 0)
    nearer = np.where(np.abs(line[above] - wanted) < np.abs(line[below] - wanted), above, below)
    return np.where(moment[nearer] == moment[asked] + 1, nearer, -1)


def _line(song: int, pitch: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Song, pitch and time as one number, so that one search finds the nearest time in all."""
    return (song * NUM_PITCHES + pitch) * _PITCH_RUN_S + time_s
