"""The events of a song by channel, and looking things up among those of the same channel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.midi.tempo_map import Times

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, DECLARATION = 0x80, 0x90, 0xB0, 0xC0, 0xF0
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123

CHANNELS_PER_PORT = 16


class ChannelEvents(NamedTuple):
    """Events ordered by channel, and on each channel in the order they happen.

    Attributes:
        status: `(N,)` uint8, 0x80 to 0xEF; or DECLARATION (percussion.py).
        channel: `(N,)` uint16, counted through all ports: 16 times the port plus 0-15.
        first, second: `(N,)` uint8, the data bytes, 0-127; no meaning in an event with fewer.
        number: `(N,)` int64, the place of each event among those of all channels.
        ms: `(N + 1,)` float64, their times in milliseconds; the last is the end of the song.
        begins: the index of the first event of each channel that has any.
    """

    status: np.ndarray
    channel: np.ndarray
    first: np.ndarray
    second: np.ndarray
    number: np.ndarray
    ms: Times
    begins: np.ndarray

    def latest(self, is_marked: np.ndarray) -> np.ndarray:
        """The last marked event up to each event on its channel, `(N,)`.

        Where there is none, it is the first event of the channel.
        """
        stays = is_marked.copy()
        stays[self.begins] = True
        places = np.arange(len(stays)) * stays
        return np.maximum.accumulate(places, out=places)

    def current(self, is_set: np.ndarray, value: np.ndarray, default: int) -> np.ndarray:
        """The value `(N,)` that is current at each event, on its channel.

        Args:
            is_set: `(N,)` which events set it.
            value: `(N,)` uint8, to what they set it.
            default: the value before the first of them.
        """
        values = value.copy()
        values[self.begins[~is_set[self.begins]]] = default
        return values.take(self.latest(is_set))

    def following(self, is_marked: np.ndarray) -> np.ndarray:
        """The first marked event from each event on, on its channel, `(N,)`; N if there is none."""
        size = len(is_marked)
        stays = is_marked.copy()
        stays[self.begins - 1] = True  # the last event of each channel, the very last included
        places = np.where(stays, np.arange(size), size)
        places = np.minimum.accumulate(places[::-1])[::-1]
        return np.where(np.append(is_marked, False).take(places), places, size)
