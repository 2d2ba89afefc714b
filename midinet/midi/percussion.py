"""Which notes are percussion: those of channel 10, and of what a file declares to be percussion.

A channel is declared to play percussion, or not to, by a system exclusive message of Roland's GS or
Yamaha's XG; or it gets a bank of drum kits in XG or General MIDI 2.

Sources: Roland SC-88 owner's manual, MIDI implementation; Yamaha XG specifications 1.35; MIDI
Association, General MIDI System Level 2, section 3.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from midinet.midi.channel_events import (
    CHANNELS_PER_PORT,
    CONTROL,
    DECLARATION,
    ChannelEvents,
)
from midinet.midi.events import read_variable
from midinet.midi.notes import DRUM_CHANNEL

_BANK_SELECT = 0
_GM2_DRUM_BANK, _XG_DRUM_BANKS = 120, (126, 127)

_RESET = 16  # in the place of a channel's number: all channels of all ports
_OTHER_MODE, _GS_MODE = 0, 1

_MAKERS = np.zeros(256, bool)
_MAKERS[[0x41, 0x43, 0x7E]] = True  # Roland, Yamaha, and what is common to all
_MESSAGE_BYTES = 8
# In hexadecimal, where a dot stands for any digit. The second byte is the number of the device.
_GS_PART_MODE = "41 .. 42 12 40 1. 15"
_XG_PART_MODE = "43 1. 4C 08 0. 07"
_RESETS = {
    "41 .. 42 12 40 00 7F": _GS_MODE,
    "41 .. 42 12 00 00 7F": _GS_MODE,  # the SC-88's choice between one part per channel or two
    "43 1. 4C 00 00 7E": _OTHER_MODE,
    "7E .. 09 01": _OTHER_MODE,  # General MIDI
    "7E .. 09 03": _OTHER_MODE,  # General MIDI 2
}


class Declarations(NamedTuple):
    """What system exclusive messages say of percussion; arrays of one length.

    Attributes:
        event: the number of each event.
        channel: uint8, 0-15 in its port, or _RESET for all channels.
        value: uint8, whether the channel is percussion; the mode after a reset.
    """

    event: np.ndarray
    channel: np.ndarray
    value: np.ndarray


def find_declarations(data: np.ndarray, event: np.ndarray, position: np.ndarray) -> Declarations:
    """Finds the declarations among system exclusive messages.

    Args:
        data: `(bytes,)` uint8, the file.
        event: `(S,)` the numbers of the system exclusive events, ascending.
        position: `(S,)` the position of the byte after the status byte of each.
    """
    length, start = read_variable(data, position)
    is_known = _MAKERS.take(data.take(start)) & (length > 3)
    event, length, start = event[is_known], length[is_known], start[is_known]
    message = data.take(start[:, None] + np.arange(_MESSAGE_BYTES))
    message[np.arange(_MESSAGE_BYTES) >= length[:, None]] = 0xFF  # bytes of what comes after it

    channel = np.full(len(event), 0xFF, np.uint8)
    value = np.zeros(len(event), np.uint8)
    for pattern, mode in _RESETS.items():
        matches = _matches(message, pattern)
        channel[matches], value[matches] = _RESET, mode
    matches = _matches(message, _GS_PART_MODE) & (message[:, 7] < 0x80)
    part = message[matches, 5] & 0x0F  # part 0 plays channel 10, the others move up below it
    channel[matches] = np.where(
        part == 0, DRUM_CHANNEL, np.where(part <= DRUM_CHANNEL, part - 1, part)
    )
    value[matches] = message[matches, 7] > 0
    matches = _matches(message, _XG_PART_MODE) & (message[:, 6] < 0x80)
    channel[matches], value[matches] = message[matches, 4], message[matches, 6] > 0
    declares = channel <= _RESET
    return Declarations(event[declares], channel[declares], value[declares])


def _matches(message: np.ndarray, pattern: str) -> np.ndarray:
    """Which messages `(S, _MESSAGE_BYTES)` begin with a pattern."""
    digits = pattern.replace(" ", "")
    mask, value = (
        np.frombuffer(bytes.fromhex(text), np.uint8)
        for text in (re.sub(r"\w", "F", digits).replace(".", "0"), digits.replace(".", "0"))
    )
    matches: np.ndarray = ((message[:, : len(mask)] & mask) == value).all(axis=1)
    return matches


def is_percussion(events: ChannelEvents, on: np.ndarray) -> np.ndarray:
    """Whether notes are percussion.

    The latest declaration of a channel counts; before it, and after a reset, channel 10 is
    percussion. A bank of drum kits that was selected later makes any channel percussion, as long as
    it is selected. Banks 126 and 127 have another meaning in GS.

    Args:
        events: the N events of a song.
        on: `(M,)` the notes' note-ons.

    Returns:
        `(M,)` bool.
    """
    is_usual: np.ndarray = events.channel.take(on) & (CHANNELS_PER_PORT - 1) == DRUM_CHANNEL
    is_bank = (events.status & 0xF0 == CONTROL) & (events.first == _BANK_SELECT)
    is_declaration = events.status == DECLARATION
    if not is_declaration.any() and not (is_bank & (events.second >= _GM2_DRUM_BANK)).any():
        return is_usual

    is_reset = is_declaration & (events.first == _RESET)
    is_part = is_declaration & ~is_reset
    part, bank = events.latest(is_part).take(on), events.latest(is_bank).take(on)
    # Resets are for the channels of all ports, so the numbers tell which event came last.
    part_number = np.where(is_part[part], events.number[part], -1)
    bank_number = np.where(is_bank[bank], events.number[bank], -1)
    resets = np.flatnonzero(is_reset)
    resets = resets[np.argsort(events.number[resets])]
    latest_reset = events.number[resets].searchsorted(events.number[on])
    reset_number = np.append(-1, events.number[resets])[latest_reset]
    mode = np.append(np.uint8(_OTHER_MODE), events.second[resets])[latest_reset]

    declared = np.where(part_number > reset_number, events.second[part] > 0, is_usual)
    is_drum_bank = (events.second[bank] == _GM2_DRUM_BANK) | (
        np.isin(events.second[bank], _XG_DRUM_BANKS) & (mode != _GS_MODE)
    )
    is_drum: np.ndarray = declared | (
        is_drum_bank & (bank_number > np.maximum(part_number, reset_number))
    )
    return is_drum
