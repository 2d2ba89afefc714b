"""Random numbers for many windows at once, which are the same whatever windows are made together.

To make a generator for each window would take a tenth of the time that making the window takes. So
each number is computed from the window's seed, the note, and what it is for.

Source: the mixing of bits is that of SplitMix64, Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators".
"""

from __future__ import annotations

import zlib

import numpy as np

_STEP = 0x9E3779B97F4A7C15  # odd, and without a pattern in its bits


class Draws:
    """Random numbers for some windows, or for some notes.

    Args:
        seeds: `(N,)` whole numbers, one for each window.

    Example:
        >>> draws = Draws([5, 6])
        >>> is_loud = draws.uniform("loudness") < 0.5  # for each of the two windows
        >>> of_notes = draws.each(np.array([0, 0, 1]))  # two notes of the first, one of the second
        >>> is_missing = of_notes.uniform("missing") < 0.1
    """

    def __init__(self, seeds: np.ndarray | list[int]) -> None:
        self._seeds = np.asarray(seeds, np.uint64)

    def each(self, row: np.ndarray) -> Draws:
        """Those for some things in the windows, such as notes.

        Args:
            row: `(M,)` the window of each of them, ascending.
        """
        place = np.arange(len(row)) - row.searchsorted(row)
        return Draws(_mixed(self._seeds[row] + (place + 1).astype(np.uint64) * np.uint64(_STEP)))

    def uniform(self, purpose: str) -> np.ndarray:
        """Draws numbers from 0 up to 1: `(N,)` float64; always the same for the same purpose."""
        salt = zlib.crc32(purpose.encode()) * _STEP % 2**64
        numbers = _mixed(self._seeds + np.uint64(salt))
        uniform: np.ndarray = (numbers >> np.uint64(11)) * 2.0**-53
        return uniform

    def integers(self, purpose: str, first: int, last: int) -> np.ndarray:
        """Draws whole numbers from `first` to `last`: `(N,)` int64; see `uniform`."""
        numbers: np.ndarray = (self.uniform(purpose) * (last - first + 1)).astype(np.int64)
        return numbers + first


def _mixed(bits: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 numbers, so that similar ones become independent."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
