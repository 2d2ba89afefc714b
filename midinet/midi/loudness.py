"""How loud notes are heard: their velocity, scaled by the volume of their channel."""

from __future__ import annotations

import numpy as np

from midinet.midi.channel_events import CONTROL, RESET_CONTROLLERS, ChannelEvents
from midinet.midi.pairing import PairedNotes

_VOLUME, _EXPRESSION = 7, 11
_DEFAULT_VOLUME, _DEFAULT_EXPRESSION = 100, 127


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
    velocity: np.ndarray = events.second.take(notes.on)
    is_control = events.status & 0xF0 == CONTROL
    is_volume = is_control & (events.first == _VOLUME)
    is_expression = is_control & (events.first == _EXPRESSION)
    if not is_volume.any() and not is_expression.any():
        return velocity
    product = events.current(is_volume, events.second, _DEFAULT_VOLUME).astype(np.int32)
    if is_expression.any():  # else it is the same factor everywhere
        is_reset = is_control & (events.first == RESET_CONTROLLERS)
        expression = np.where(is_reset, np.uint8(_DEFAULT_EXPRESSION), events.second)
        product *= events.current(is_expression | is_reset, expression, _DEFAULT_EXPRESSION)

    factor = product.take(notes.on)
    silent = np.flatnonzero(factor == 0)
    if len(silent):
        on, end = notes.on[silent], notes.end[silent]
        audible = events.following(product > 0)[on]
        is_heard = audible < end
        silent, on, end, audible = (part[is_heard] for part in (silent, on, end, audible))
        fade_end = events.following(np.append(product[1:] < product[:-1], True))[audible]
        end_of_channel = events.channel.searchsorted(events.channel[on], side="right")
        factor[silent] = product[np.minimum(fade_end, np.minimum(end, end_of_channel) - 1)]

    largest = int(factor.max(initial=1))
    scaled = (2 * factor * velocity + largest) // (2 * largest)  # rounded
    heard: np.ndarray = np.maximum(scaled, factor > 0).astype(np.uint8)
    return heard
