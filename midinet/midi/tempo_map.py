"""Where the beats of a song lie: its tempo changes and time signatures."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

Times: TypeAlias = np.ndarray  # float64, in milliseconds from the beginning of the song

DEFAULT_US_PER_BEAT = 500_000  # 120 beats per minute, where a file sets no tempo

# Of a song's onsets that must lie on the grid of its tempo map, or it has no metronome.
MIN_GRID_SHARE = 0.8
_GRID_TOLERANCE_MS = 12.0
_SIXTEENTHS, _TRIPLETS = 4, 3  # per beat


class TempoMap(NamedTuple):
    """The beats (quarter notes) of a song: arrays of one length M, one entry per tempo change.

    Attributes:
        ms: `(M,)` float64, ascending: when each tempo begins, in milliseconds.
        beats: `(M,)` float64, the beat at that time; the song begins with beat 0.
        us_per_beat: `(M,)` float64, the tempo from then on, in microseconds per beat.
        time_signatures: (beat, numerator, denominator) of each time signature that is set, such as
            (0.0, 3, 4); empty if none is.

    Example:
        >>> tempo_map = read_midi("song.mid").tempo_map
        >>> tempo_map.beats_at(np.array([0.0, 500.0]))  # at 120 beats per minute
        array([0., 1.])
    """

    ms: Times
    beats: np.ndarray
    us_per_beat: np.ndarray
    time_signatures: tuple[tuple[float, int, int], ...] = ()

    @classmethod
    def constant(cls, beats_per_minute: float) -> TempoMap:
        """The map of a song in one tempo."""
        zero = np.zeros(1)
        return cls(zero, zero, np.array([60e6 / beats_per_minute]))

    def beats_at(self, ms: Times) -> np.ndarray:
        """The beats, with fractions, at times in milliseconds; before the first tempo change too.

        Args:
            ms: `(...)` times.

        Returns:
            `(...)` float64.
        """
        change = self._changes_at(ms)
        since_ms = ms - self.ms[change]
        beats: np.ndarray = self.beats[change] + since_ms * 1000 / self.us_per_beat[change]
        return beats

    def us_per_beat_at(self, ms: Times) -> np.ndarray:
        """The tempos in microseconds per beat, float64, at times `(...)` in milliseconds."""
        tempos: np.ndarray = self.us_per_beat[self._changes_at(ms)]
        return tempos

    def _changes_at(self, ms: Times) -> np.ndarray:
        """The index of the tempo change that holds at times in milliseconds."""
        return np.maximum(self.ms.searchsorted(ms, side="right") - 1, 0)

    def grid_share(self, onsets_ms: Times) -> float:
        """The share of onsets that lie within 12 ms of a sixteenth or a triplet of a beat.

        Args:
            onsets_ms: `(N,)` onsets in milliseconds.

        Returns:
            0 to 1; 0 without notes. By chance alone, as in a song recorded without a metronome, it
            is about 0.3 at 120 beats per minute, and more at faster tempos.
        """
        if not len(onsets_ms):
            return 0.0
        beats = self.beats_at(onsets_ms)
        tolerance = _GRID_TOLERANCE_MS * 1000 / self.us_per_beat_at(onsets_ms)  # in beats
        is_near = np.zeros(len(onsets_ms), bool)
        for parts in (_SIXTEENTHS, _TRIPLETS):
            is_near |= np.abs(beats - np.round(beats * parts) / parts) <= tolerance
        return float(is_near.mean())

    def since(self, start_ms: float) -> TempoMap:
        """The same map with time counted from `start_ms`; beats and bar lines keep their numbers.

        So a song whose leading silence is cut off keeps the position of its notes in the bar.
        """
        first = max(int(self.ms.searchsorted(start_ms, side="right")) - 1, 0)
        ms, beats = self.ms[first:] - start_ms, self.beats[first:].copy()
        beats[0] = self.beats_at(np.array(start_ms))
        ms[0] = 0.0
        return TempoMap(ms, beats, self.us_per_beat[first:], self.time_signatures)

    def without(self, from_ms: float, to_ms: float) -> TempoMap:
        """The map of the song after the time between `from_ms` and `to_ms` was cut out.

        The beats of that time are cut out with it, so those after it keep their length, but have
        lower numbers.
        """
        from_beat, to_beat = self.beats_at(np.array([from_ms, to_ms])).tolist()
        before, after = self.ms < from_ms, self.ms > to_ms
        tempo_after = self.us_per_beat[max(int(self.ms.searchsorted(to_ms, side="right")) - 1, 0)]
        removed_beats = to_beat - from_beat
        return TempoMap(
            np.concatenate([self.ms[before], [from_ms], self.ms[after] - (to_ms - from_ms)]),
            np.concatenate([self.beats[before], [from_beat], self.beats[after] - removed_beats]),
            np.concatenate([self.us_per_beat[before], [tempo_after], self.us_per_beat[after]]),
            tuple(
                (beat if beat <= from_beat else max(from_beat, beat - removed_beats), n, d)
                for beat, n, d in self.time_signatures
            ),
        )


class Clock:
    """Turns the ticks of a file into milliseconds, and milliseconds into ticks.

    Sums are in ticks times microseconds per beat: integers that a float64 holds exactly for days
    of music. So the one division at the end is the only rounding.
    """

    def __init__(self, tick: np.ndarray, us_per_beat: np.ndarray, tick_us_per_ms: float) -> None:
        """Takes the tempo changes.

        Args:
            tick: `(M,)` the tick of each tempo change, in the file's order.
            us_per_beat: `(M,)` the tempos.
            tick_us_per_ms: how many of the units described above a millisecond has.
        """
        self._units_per_ms = tick_us_per_ms
        order = np.argsort(tick, kind="stable")
        tick = np.concatenate(((0,), tick[order]))
        us_per_beat = np.concatenate(((float(DEFAULT_US_PER_BEAT),), us_per_beat[order]))
        counts = np.append(tick[1:] > tick[:-1], True)  # of several on one tick only the last
        tick, us_per_beat = tick[counts], us_per_beat[counts]
        units = (tick[1:] - tick[:-1]) * us_per_beat[:-1]
        self._tick, self._us_per_beat = tick, us_per_beat
        self._units = np.concatenate(((0.0,), np.cumsum(units)))

    def to_ms(self, tick: np.ndarray) -> Times:
        """The times of ascending ticks `(N,)` in milliseconds."""
        if len(self._tick) == 1:
            units = tick * self._us_per_beat[0]
        else:
            first = np.append(np.searchsorted(tick, self._tick), len(tick))
            count = np.diff(first)
            units_before = self._units.repeat(count)
            since, us_per_beat = self._tick.repeat(count), self._us_per_beat.repeat(count)
            units = units_before + (tick - since) * us_per_beat
        ms: Times = units / self._units_per_ms
        return ms

    def to_ticks(self, ms: Times) -> np.ndarray:
        """The ticks nearest to times `(N,)` in milliseconds, in any order."""
        units = ms * self._units_per_ms
        change = np.maximum(self._units.searchsorted(units, side="right") - 1, 0)
        since = (units - self._units[change]) / self._us_per_beat[change]
        ticks: np.ndarray = self._tick[change] + np.floor(since + 0.5).astype(np.int64)
        return ticks

    def tempo_map(
        self, ticks_per_beat: int, time_signatures: list[tuple[int, int, int]]
    ) -> TempoMap:
        """The map of the beats.

        Args:
            ticks_per_beat: the file's time division.
            time_signatures: (tick, numerator, denominator) of each, in the file's order.
        """
        by_tick = {tick: (n, d) for tick, n, d in time_signatures}
        return TempoMap(
            self._units / self._units_per_ms,
            self._tick / ticks_per_beat,
            self._us_per_beat,
            tuple((tick / ticks_per_beat, *by_tick[tick]) for tick in sorted(by_tick)),
        )
