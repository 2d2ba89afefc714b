"""The events of all channels in the order they happen, and looking things up among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, DECLARATION = 0x80, 0x90, 0xB0, 0xC0, 0xF0
ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 120, 121, 123

CHANNELS_PER_PORT = 16
CHANNEL_BIT = 32  # in sort keys, above the number of an event


class ChannelEvents(NamedTuple):
    """Channel events in the order they happen; arrays of one length N.

    Attributes:
        status: `(N,)` uint8, 0x80 to 0xEF; or DECLARATION (percussion.py).
        channel: `(N,)` uint16, counted through all ports: 16 times the port plus 0-15.
        first, second: `(N,)` uint8, the data bytes, 0-127; no meaning in an event with fewer.
    """

    status: np.ndarray
    channel: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def num_channels(self) -> int:
        """The number of channels of all ports."""
        return (int(self.channel.max(initial=0)) // CHANNELS_PER_PORT + 1) * CHANNELS_PER_PORT

    def channel_keys(self, events: np.ndarray) -> np.ndarray:
        """Sort keys of some events: by channel, then in the order of the song; none is 0."""
        keys: np.ndarray = self.channel.take(events).astype(np.int64) << CHANNEL_BIT | events + 1
        return keys


class ChannelMarks:
    """Marked events, to be found from other events of the same channel."""

    def __init__(self, events: ChannelEvents, marks: np.ndarray) -> None:
        """Takes all N events and the numbers of the marked ones."""
        self._events = events
        keys = np.sort(events.channel_keys(marks))
        self._keys = np.concatenate(([-1], keys, [np.iinfo(np.int64).max]))

    def rank(self, events: np.ndarray) -> np.ndarray:
        """A number that grows with each marked event of the channel."""
        rank: np.ndarray = self._keys.searchsorted(self._events.channel_keys(events))
        return rank

    def latest(self, events: np.ndarray) -> np.ndarray:
        """The last marked event before each event on its channel, or N."""
        return self._marks(self.rank(events) - 1, events)

    def following(self, events: np.ndarray) -> np.ndarray:
        """The first marked event from each event on, on its channel, or N."""
        return self._marks(self.rank(events), events)

    def _marks(self, places: np.ndarray, events: np.ndarray) -> np.ndarray:
        """The marks at places among the keys; N where they are on another channel than events."""
        keys = self._keys.take(places)
        keys -= self._events.channel.take(events).astype(np.int64) << CHANNEL_BIT
        keys -= 1
        keys[(keys < 0) | (keys >> CHANNEL_BIT != 0)] = len(self._events.status)
        return keys
