"""Channel events -> notes: which note-off ends a note, what the pedal holds, what plays it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from midinet.midi.channel_events import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_ON,
    PROGRAM,
    RESET_CONTROLLERS,
    ChannelEvents,
)
from midinet.midi.tempo_map import Times

_DEFAULT_PROGRAM = 0
_SUSTAIN, _SOSTENUTO = 64, 66
_PEDAL_DOWN = 64  # the least value of a pedal's controller that holds
_LATE_MS = 50.0  # a note-off this long after the latest stroke of its key ends all its notes
_RADIX_CHANNELS = 512  # so many channels have keys of 16 bits, which sort fast


class PairedNotes(NamedTuple):
    """Notes by the events that make them; arrays of one length, ordered by onset.

    Attributes:
        on: `(M,)` which event is the note's note-on.
        end: `(M,)` which event ends its sound; N, one more than there are, if none does.
        program: `(M,)` uint8, the program of the note's channel at the onset.
    """

    on: np.ndarray
    end: np.ndarray
    program: np.ndarray


def pair(events: ChannelEvents, sustain: bool) -> PairedNotes:
    """Pairs note-ons with what ends them.

    Where a key is struck again while it still sounds, a note-off at least 50 ms after the latest
    stroke ends all notes of that key, as it does in a synthesiser. So a lost note-off spoils one
    note, and not every later note of its key. A note-off that comes sooner ends the oldest of the
    notes: these are meant to overlap by a few ticks, as in legato.

    A note-on with velocity 0 is a note-off. A note-off that finds no note is ignored. All-notes-off
    (controller 123, or a change of mode, 124 to 127) is a note-off for all keys of the channel, and
    all-sound-off (120) also ends what a pedal holds.

    Args:
        events: the N events of a song.
        sustain: whether pedals hold notes until they go up or the controllers are reset (121): the
            sustain pedal every note that is released, the sostenuto pedal the notes whose keys are
            down at the moment it is pressed.
    """
    kind, controller = events.status & 0xF0, events.first
    is_note, is_control = kind <= NOTE_ON, kind == CONTROL
    is_on = (kind == NOTE_ON) & (events.second > 0)
    silences = is_control & ((controller == ALL_SOUND_OFF) | (controller >= ALL_NOTES_OFF))
    is_silenced = bool(silences.any())

    notes = np.flatnonzero(is_note)
    key_type = np.uint16 if events.channel.max(initial=0) < _RADIX_CHANNELS else np.uint32
    key = np.left_shift(events.channel.take(notes), 7, dtype=key_type) | events.first.take(notes)
    num_silences = np.cumsum(silences).take(notes) if is_silenced else None
    closed, closing = _match(key, num_silences, is_on.take(notes), events.ms, notes)
    end = events.following(silences) if is_silenced else np.full(len(kind), len(kind))
    end[closed] = closing

    on = np.flatnonzero(is_on)
    on = on.take(np.argsort(events.number.take(on), kind="stable"))
    end = end.take(on)
    if sustain:
        _apply_pedal(_SOSTENUTO, on, end, is_control, events)
        _apply_pedal(_SUSTAIN, on, end, is_control, events)
    program = events.current(kind == PROGRAM, events.first, _DEFAULT_PROGRAM)
    return PairedNotes(on, end, program.take(on))


def _apply_pedal(
    pedal: int, on: np.ndarray, end: np.ndarray, is_control: np.ndarray, events: ChannelEvents
) -> None:
    """Moves the ends of notes that are released while a pedal holds them.

    Args:
        pedal: the pedal's controller.
        on: `(M,)` which of the N events is each note's note-on.
        end: `(M,)` which event ends each note, or N; changed in place.
        is_control: `(N,)` which events are controllers.
        events: all events.
    """
    controller = events.first
    is_pedal = is_control & (controller == pedal)
    is_down = is_pedal & (events.second >= _PEDAL_DOWN)
    if not is_down.any():
        return
    is_up = (is_pedal & ~is_down) | (is_control & (controller == RESET_CONTROLLERS))
    moves = is_down | is_up
    if pedal == _SOSTENUTO:  # pressing it while it is down changes nothing
        before = events.latest(moves)
        is_repeat = is_down[1:] & is_down.take(before[:-1])
        moves[1:] &= ~(is_repeat & (events.channel[1:] == events.channel[:-1]))

    released = np.flatnonzero(end < len(is_control))
    off = end[released]
    latest_move = events.latest(moves)[off]
    held = is_down[latest_move]
    if pedal == _SOSTENUTO:
        held &= latest_move > on[released]  # only what already sounded as the pedal went down
    lets_go = events.following(is_up | (is_control & (controller == ALL_SOUND_OFF)))
    end[released[held]] = lets_go[off[held]]


def _match(
    key: np.ndarray,
    num_silences: np.ndarray | None,
    is_on: np.ndarray,
    ms: Times,
    notes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the note-off of each note-on, among those of the same key with no silence between.

    Args:
        key: `(M,)` unsigned, channel and pitch of each note-on and note-off.
        num_silences: `(M,)` how many times the channel was silenced before; None if it never is.
        is_on: `(M,)` whether it is a note-on.
        ms: `(N + 1,)` the times of all events.
        notes: `(M,)` which events these are.

    Returns:
        The note-ons that are closed, and the note-off of each.
    """
    order = np.argsort(key, kind="stable")  # a radix sort if keys have 16 bits
    key, is_on = key.take(order), is_on.take(order)
    begins = np.ones(len(key), bool)  # a group: what has key and number of silences in common
    np.not_equal(key[1:], key[:-1], out=begins[1:])
    if num_silences is not None:
        num_silences = num_silences.take(order)
        begins[1:] |= num_silences[1:] != num_silences[:-1]
    order = notes.take(order)
    closed = is_on[:-1] & ~begins[1:]  # right where note-ons and note-offs of a key take turns
    repeats = np.flatnonzero((is_on[1:] == is_on[:-1]) & ~begins[1:])
    if not len(repeats):
        on = np.flatnonzero(closed)
        return order[on], order[on + 1]
    group = np.cumsum(begins) - 1
    takes_turns = np.ones(group[-1] + 1, bool)
    takes_turns[group[repeats]] = False
    takes_turns = takes_turns[group]
    del group, repeats  # a file of one note again and again has millions of them
    on, rest = np.flatnonzero(closed & takes_turns[:-1]), np.flatnonzero(~takes_turns)
    begins, is_on = begins[rest], is_on[rest]
    ends_all = _ends_all(begins, is_on, ms.take(order[rest]))
    rest_on, rest_off = _match_overlaps(begins, is_on, ends_all)
    on, off = np.append(on, rest[rest_on]), np.append(on + 1, rest[rest_off])
    return order[on], order[off]


def _match_overlaps(
    begins: np.ndarray, is_on: np.ndarray, ends_all: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the note-off of each note-on in groups where notes overlap.

    Args:
        begins: `(M,)` whether an event is the first of a group; changed in place.
        is_on: `(M,)` whether an event is a note-on.
        ends_all: `(M,)` whether it is a note-off that ends all notes of its group.

    Returns:
        The note-ons that are closed, and the note-off of each.
    """
    begins[1:] |= ends_all[:-1]
    on, off = _first_in_first_out(begins, is_on)
    # If the last event of a group ends all its notes, it also ends those that are still open.
    last = np.append(np.flatnonzero(begins)[1:], len(begins)) - 1
    open_on = is_on.copy()
    open_on[on] = False
    open_on = np.flatnonzero(open_on)
    last_of_group = last[last.searchsorted(open_on)]
    ended = ends_all[last_of_group]
    return np.append(on, open_on[ended]), np.append(off, last_of_group[ended])


def _ends_all(begins: np.ndarray, is_on: np.ndarray, ms: Times) -> np.ndarray:
    """Marks the note-offs that come at least _LATE_MS after the latest stroke of their group."""
    latest = np.arange(len(is_on))
    latest[~(is_on | begins)] = 0
    np.maximum.accumulate(latest, out=latest)
    # Rounded, since the times are not exact to the last bit.
    is_late = np.round(ms - ms.take(latest), 6) >= _LATE_MS
    ends_all: np.ndarray = is_late & ~is_on & is_on.take(latest)
    return ends_all


def _first_in_first_out(begins: np.ndarray, is_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs note-ons with note-offs of the same group.

    The n-th note-off that finds a note sounding closes the n-th note-on. A note-off finds none
    exactly where offs outnumber ons by more than ever before.

    Args:
        begins: `(M,)` whether an event is the first of a group.
        is_on: `(M,)` whether an event is a note-on.

    Returns:
        The note-ons that are closed, and the note-off of each.
    """
    first = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    step = np.where(is_on, np.int8(1), np.int8(-1))
    balance = np.cumsum(step, dtype=np.int64)
    balance -= (balance[first] - step[first])[group]
    # The running minimum of each group: every group lies below all values of the one before it.
    np.minimum(balance, 0, out=balance)
    balance -= group * (len(is_on) + 1)
    lowest = np.minimum.accumulate(balance, out=balance)
    finds = ~is_on
    finds[:1] = False
    finds[1:] &= lowest[1:] == lowest[:-1]

    on, off = np.flatnonzero(is_on), np.flatnonzero(finds)
    first_on, first_off = on.searchsorted(first), off.searchsorted(first)
    group = group[on]
    wanted = np.arange(len(on)) + (first_off - first_on)[group]
    closed = wanted < np.append(first_off, len(off))[group + 1]
    return on[closed], off[wanted[closed]]
