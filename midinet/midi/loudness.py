"""How loud notes are heard: their velocity, scaled by the volume of their channel."""

from __future__ import annotations

import numpy as np

from midinet.midi.channel_events import CHANNEL_BIT, CONTROL, RESET_CONTROLLERS, ChannelEvents
from midinet.midi.pairing import PairedNotes

_VOLUME, _EXPRESSION = 7, 11
_DEFAULT_VOLUME, _DEFAULT_EXPRESSION = 100, 127
_CHANGES_LOUDNESS = np.zeros(128, bool)
_CHANGES_LOUDNESS[[_VOLUME, _EXPRESSION, RESET_CONTROLLERS]] = True


def heard_velocity(events: ChannelEvents, notes: PairedNotes) -> np.ndarray:
    """Scales the velocities of notes by the volume and the expression of their channels.

    In General MIDI the level in decibels is 40 log10 of the volume, of the expression, and in
    practice of the velocity too. So a change of volume is the same as a proportional change of
    velocity. A note's factor is volume times expression at its onset, relative to the largest such
    product of the file. A note that fades in from silence gets the factor at the end of its fade.

    Args:
        events: the N events of a song.
        notes: its M notes.

    Returns:
        `(M,)` uint8, 1-127, or 0 for a note that is never heard.

    Source: MIDI Association, General MIDI System Level 2, on controllers 7 and 11; RP-015, on what
    resetting the controllers (121) leaves alone: it resets the expression, not the volume.
    """
    velocity: np.ndarray = events.second[notes.on]
    is_change = (events.status & 0xF0 == CONTROL) & _CHANGES_LOUDNESS.take(events.first)
    if not is_change.any():
        return velocity
    key, product = _products(events, np.flatnonzero(is_change))
    channel_key = events.channel[notes.on].astype(np.int64) << CHANNEL_BIT
    at = key.searchsorted(channel_key | notes.on + 1) - 1
    factor = product[at]

    silent = np.flatnonzero(factor == 0)
    if len(silent):
        last = key.searchsorted(channel_key[silent] | notes.end[silent] + 1) - 1
        audible = _next(product > 0)[at[silent]]
        is_heard = audible <= last
        silent, audible, last = silent[is_heard], audible[is_heard], last[is_heard]
        fade_end = _next(np.append(product[1:] < product[:-1], True))[audible]
        factor[silent] = product[np.minimum(fade_end, last)]

    largest = factor.max(initial=1)
    scaled = (2 * factor * velocity + largest) // (2 * largest)  # rounded
    return np.where(factor > 0, np.maximum(scaled, 1), 0).astype(np.uint8)


def _products(events: ChannelEvents, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Volume times expression of each channel over time.

    Args:
        events: the events of a song.
        changes: which of them change a volume or an expression.

    Returns:
        Sorted keys, of a channel (above CHANNEL_BIT) and the event that changes the product, and
        the product from there on. Each channel begins with its default.
    """
    defaults = np.full(events.num_channels, -1)
    begins = np.arange(events.num_channels) << CHANNEL_BIT
    key = np.append(begins, events.channel_keys(changes))
    controller = np.append(defaults, events.first[changes])
    value = np.append(defaults, events.second[changes])
    order = np.argsort(key, kind="stable")
    key, controller, value = key[order], controller[order], value[order]

    is_default = controller < 0
    volume = np.where(is_default, _DEFAULT_VOLUME, value)
    expression = np.where(controller == _EXPRESSION, value, _DEFAULT_EXPRESSION)
    latest_volume = _latest(is_default | (controller == _VOLUME))
    latest_expression = _latest(controller != _VOLUME)
    return key, volume[latest_volume] * expression[latest_expression]


def _latest(is_marked: np.ndarray) -> np.ndarray:
    """The last marked place up to each; the first place is marked."""
    return np.maximum.accumulate(np.where(is_marked, np.arange(len(is_marked)), 0))


def _next(is_marked: np.ndarray) -> np.ndarray:
    """The first marked place from each on; the number of places if there is none."""
    size = len(is_marked)
    places = np.where(is_marked, np.arange(size), size)
    following: np.ndarray = np.minimum.accumulate(places[::-1])[::-1]
    return following
