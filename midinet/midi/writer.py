"""Notes -> a mido.MidiFile with one track and one channel per instrument."""

from __future__ import annotations

import mido
import numpy as np

from midinet.midi.general_midi import program_name
from midinet.midi.notes import DRUM_CHANNEL, Notes

TICKS_PER_BEAT = 500
US_PER_BEAT = 500_000  # with 500 ticks per beat one tick is one millisecond

_MELODIC_CHANNELS = [channel for channel in range(16) if channel != DRUM_CHANNEL]


def notes_to_midi(notes: Notes, text: str = "") -> mido.MidiFile:
    """Makes a MIDI file from notes, with percussion on channel 10.

    Args:
        notes: the notes, ordered by onset; times are rounded to milliseconds.
        text: a text event for the beginning of the file.

    Returns:
        A file of format 1: a track with the tempo and the text, then one track per instrument,
        which bears its name.

    Example:
        >>> notes_to_midi(read_midi("song.mid")).save("song in milliseconds.mid")
    """
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, charset="utf-8")
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=US_PER_BEAT)]))
    if text:
        file.tracks[0].insert(0, mido.MetaMessage("text", text=text))

    start = np.floor(notes.start_ms + 0.5).astype(np.int64)
    end = np.maximum(np.floor(notes.end_ms + 0.5).astype(np.int64), start + 1)
    melodic = np.flatnonzero(~notes.is_drum)
    # In the order of their messages: players read the tracks, which are in order of programs, in
    # turn on each tick.
    melodic = melodic[np.lexsort((notes.program[melodic], start[melodic]))]
    channel = np.full(len(notes), DRUM_CHANNEL)
    channel[melodic], end[melodic], changes = _assign_channels(
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


def _assign_channels(
    start: np.ndarray, end: np.ndarray, program: np.ndarray, pitch: np.ndarray
) -> tuple[list[int], list[int], list[bool]]:
    """Shares the 15 melodic channels among any number of instruments.

    A note goes to a channel that already plays its program. If there is none, a program change
    gives it the channel that has been idle for the longest time or will be idle first: a program
    change does not affect notes that still sound, so it is enough that the note's own pitch is
    silent on the channel. Only where that pitch sounds on all 15 channels is a note cut short: the
    one on the channel that would be idle first.

    Args:
        start, end, program, pitch: `(N,)` the notes in the order of their messages; times in ticks.

    Returns:
        The channel of each note, its end, and whether a program change comes before it.
    """
    channels, ends, changes = [], end.tolist(), []
    playing = dict.fromkeys(_MELODIC_CHANNELS, -1)  # program of each channel
    busy_until = dict.fromkeys(_MELODIC_CHANNELS, -1)
    sounding: dict[tuple[int, int], int] = {}  # (channel, pitch) -> its latest note
    columns = (column.tolist() for column in (start, end, program, pitch))
    for note, (note_start, note_end, wanted, key) in enumerate(zip(*columns, strict=True)):
        silent = [
            c for c in playing if (c, key) not in sounding or ends[sounding[c, key]] <= note_start
        ] or _MELODIC_CHANNELS
        matching = [c for c in silent if playing[c] == wanted]
        channel = matching[0] if matching else min(silent, key=lambda c: busy_until[c])
        cut = sounding.get((channel, key))
        if cut is not None and ends[cut] > note_start and playing[channel] != wanted:
            ends[cut] = max(note_start, start[cut] + 1)
        changes.append(playing[channel] != wanted)
        channels.append(channel)
        playing[channel] = wanted
        busy_until[channel] = max(busy_until[channel], note_end)
        sounding[channel, key] = note
    return channels, ends, changes


def _new_track(name: str) -> list[tuple[int, int, mido.Message]]:
    """A track as a list of (tick, order within the tick, message)."""
    return [(0, 0, mido.MetaMessage("track_name", name=name))]


def _add_notes(
    track: list[tuple[int, int, mido.Message]],
    channel: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    notes: Notes,
) -> None:
    """Adds the note-offs and note-ons of some notes to a track."""
    columns = (channel, start, end, notes.pitch, notes.velocity)
    for c, on, off, pitch, velocity in zip(*(column.tolist() for column in columns), strict=True):
        track.append((off, 0, mido.Message("note_off", channel=c, note=pitch, velocity=0)))
        track.append((on, 2, mido.Message("note_on", channel=c, note=pitch, velocity=velocity)))


def _to_deltas(track: list[tuple[int, int, mido.Message]]) -> mido.MidiTrack:
    """Sorts a track's messages and sets their delta times."""
    track.sort(key=lambda entry: entry[:2])
    now = 0
    for tick, _, message in track:
        message.time = tick - now
        now = tick
    return mido.MidiTrack(message for _, _, message in track)
