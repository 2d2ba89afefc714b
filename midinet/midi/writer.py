"""Notes -> a mido.MidiFile: one track and one channel for each instrument."""

from __future__ import annotations

import mido
import numpy as np

from midinet.midi.general_midi import program_name
from midinet.midi.notes import DRUM_CHANNEL, Notes

TICKS_A_BEAT = 500
TEMPO_US = 500_000  # with 500 ticks a beat one tick is one millisecond

_MELODIC_CHANNELS = [channel for channel in range(16) if channel != DRUM_CHANNEL]


def notes_to_midi(notes: Notes, text: str = "") -> mido.MidiFile:
    """Makes a MIDI file from notes, percussion on channel 10.

    Args:
        notes: the notes, ordered by onset; times are rounded to milliseconds.
        text: a text event for the beginning of the file.

    Returns:
        A file of format 1: a track with tempo and text, then one for each instrument, named.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_A_BEAT, charset="utf-8")
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=TEMPO_US)]))
    if text:
        file.tracks[0].insert(0, mido.MetaMessage("text", text=text))

    start = np.floor(notes.start_ms + 0.5).astype(np.int64)
    end = np.maximum(np.floor(notes.end_ms + 0.5).astype(np.int64), start + 1)
    melodic = np.flatnonzero(~notes.is_drum)
    # The tracks follow in this order, and so do their messages on one tick.
    melodic = melodic[np.lexsort((notes.program[melodic], start[melodic]))]
    channel = np.full(len(notes), DRUM_CHANNEL)
    channel[melodic], end[melodic], changes = _allot_channels(
        start[melodic], end[melodic], notes.program[melodic], notes.pitch[melodic]
    )
    for program in np.unique(notes.program[melodic]).tolist():
        mine = melodic[notes.program[melodic] == program]
        track = _new_track(program_name(program))
        setting = melodic[changes]
        for note in setting[notes.program[setting] == program].tolist():
            change = {"channel": int(channel[note]), "program": program}
            track.append((int(start[note]), 1, mido.Message("program_change", **change)))
        _add_notes(track, channel[mine], start[mine], end[mine], notes[mine])
        file.tracks.append(_to_deltas(track))
    if notes.is_drum.any():
        mine = np.flatnonzero(notes.is_drum)
        track = _new_track(program_name(0, is_drum=True))
        _add_notes(track, channel[mine], start[mine], end[mine], notes[mine])
        file.tracks.append(_to_deltas(track))
    return file


def _allot_channels(
    start: np.ndarray, end: np.ndarray, program: np.ndarray, pitch: np.ndarray
) -> tuple[list[int], list[int], list[bool]]:
    """Shares the 15 melodic channels among any number of instruments.

    A note takes the channel that plays its program already; else, with a program change, the
    channel idle for the longest time; else, since a program change leaves sounding notes alone,
    any channel on which its pitch is silent. Only where a pitch sounds on all 15 channels is the
    note that would end first cut short.

    Args:
        start, end, program, pitch: `(N,)` the notes in the order of their messages; times in ticks.

    Returns:
        The channel of each note, its end, and whether a program change comes before it.
    """
    channels, ends, changes = [], end.tolist(), []
    playing = dict.fromkeys(_MELODIC_CHANNELS, -1)  # program of each channel
    busy_until = dict.fromkeys(_MELODIC_CHANNELS, -1)
    sounding: dict[tuple[int, int], int] = {}  # (channel, pitch) -> its latest note
    for note, (now, until, what, key) in enumerate(
        zip(start.tolist(), end.tolist(), program.tolist(), pitch.tolist(), strict=True)
    ):
        silent = [
            c for c in playing if (c, key) not in sounding or ends[sounding[c, key]] <= now
        ] or _MELODIC_CHANNELS
        same = [c for c in silent if playing[c] == what]
        channel = same[0] if same else min(silent, key=lambda c: busy_until[c])
        cut = sounding.get((channel, key))
        if cut is not None and ends[cut] > now and playing[channel] != what:
            ends[cut] = max(now, start[cut] + 1)
        changes.append(playing[channel] != what)
        channels.append(channel)
        playing[channel] = what
        busy_until[channel] = max(busy_until[channel], until)
        sounding[channel, key] = note
    return channels, ends, changes


def _new_track(name: str) -> list[tuple[int, int, mido.Message]]:
    """A track as (tick, order on the tick, message)."""
    return [(0, 0, mido.MetaMessage("track_name", name=name))]


def _add_notes(
    track: list[tuple[int, int, mido.Message]],
    channel: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    notes: Notes,
) -> None:
    columns = (channel, start, end, notes.pitch, notes.velocity)
    for c, on, off, pitch, velocity in zip(*(column.tolist() for column in columns), strict=True):
        track.append((off, 0, mido.Message("note_off", channel=c, note=pitch, velocity=0)))
        track.append((on, 2, mido.Message("note_on", channel=c, note=pitch, velocity=velocity)))


def _to_deltas(track: list[tuple[int, int, mido.Message]]) -> mido.MidiTrack:
    """Orders a track's messages and gives them their delta times."""
    track.sort(key=lambda entry: entry[:2])
    now = 0
    for tick, _, message in track:
        message.time = tick - now
        now = tick
    return mido.MidiTrack(message for _, _, message in track)
