"""Notes -> a mido.MidiFile with one track and one channel per instrument."""

from __future__ import annotations

import math

import mido
import numpy as np

from midinet.midi.general_midi import program_name
from midinet.midi.notes import DRUM_CHANNEL, Notes
from midinet.midi.tempo_map import DEFAULT_US_PER_BEAT, Clock, TempoMap

TICKS_PER_BEAT = 500  # without a tempo map; at 120 beats per minute one tick is one millisecond
_COMMON_TICKS_PER_BEAT = 480  # music programs expect a multiple of it
_MIN_US_PER_BEAT, _MAX_US_PER_BEAT = 10_000, 0xFFFFFF  # faster is damage; three bytes
_MAX_DELTA_TICKS = (1 << 28) - 1  # four bytes of seven bits

_MELODIC_CHANNELS = [channel for channel in range(16) if channel != DRUM_CHANNEL]


def notes_to_midi(notes: Notes, text: str = "", tempo_map: TempoMap | None = None) -> mido.MidiFile:
    """Makes a MIDI file from notes, with percussion on channel 10.

    Args:
        notes: the notes, ordered by onset. Every time in the file is within half a millisecond of
            theirs; notes last at least one tick.
        text: a text event for the beginning of the file.
        tempo_map: the tempos and time signatures to write, so that bars line up in a music
            program; by default 120 beats per minute, and one tick is one millisecond.

    Returns:
        A file of format 1: a track with the tempos and the text, then one track per instrument,
        which bears its name.

    Example:
        >>> notes = read_midi("song.mid")
        >>> notes_to_midi(notes, tempo_map=notes.tempo_map).save("song again.mid")
    """
    conductor, clock, ticks_per_beat = _conductor(tempo_map)
    file = mido.MidiFile(type=1, ticks_per_beat=ticks_per_beat, charset="utf-8")
    if text:
        conductor.insert(0, (0, 0, mido.MetaMessage("text", text=text)))
    file.tracks.append(_to_deltas(conductor))

    start = clock.to_ticks(notes.start_ms)
    end = np.maximum(clock.to_ticks(notes.end_ms), start + 1)
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


def _conductor(
    tempo_map: TempoMap | None,
) -> tuple[list[tuple[int, int, mido.Message]], Clock, int]:
    """The messages of the first track, the times of its ticks, and the ticks per beat."""
    if tempo_map is None:
        ticks_per_beat = TICKS_PER_BEAT
        tempo_map = TempoMap.constant(60e6 / DEFAULT_US_PER_BEAT)
    else:
        slowest_ms = min(float(tempo_map.us_per_beat.max()), _MAX_US_PER_BEAT) / 1000
        # A tick lasts one millisecond at most.
        multiple = max(math.ceil(slowest_ms / _COMMON_TICKS_PER_BEAT), 1)
        ticks_per_beat = multiple * _COMMON_TICKS_PER_BEAT
    first_beat = tempo_map.beats[0]
    tick = np.rint((tempo_map.beats - first_beat) * ticks_per_beat).astype(np.int64)
    us_per_beat = np.clip(np.rint(tempo_map.us_per_beat), _MIN_US_PER_BEAT, _MAX_US_PER_BEAT)
    track = [
        (at, 0, mido.MetaMessage("set_tempo", tempo=us))
        for at, us in zip(tick.tolist(), us_per_beat.astype(int).tolist(), strict=True)
    ]
    # Those before the song's first beat: only the last of them still holds there.
    signatures = {
        max(round((beat - first_beat) * ticks_per_beat), 0): {"numerator": n, "denominator": d}
        for beat, n, d in tempo_map.time_signatures
    }
    track += [(at, 1, mido.MetaMessage("time_signature", **s)) for at, s in signatures.items()]
    # By the rounded tempos, so that rounding them moves no note.
    return track, Clock(tick, us_per_beat, 1000 * ticks_per_beat), ticks_per_beat


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
    now, messages = 0, mido.MidiTrack()
    for tick, _, message in track:
        while tick - now > _MAX_DELTA_TICKS:  # an empty text divides a delta time that is too long
            messages.append(mido.MetaMessage("text", time=_MAX_DELTA_TICKS))
            now += _MAX_DELTA_TICKS
        message.time = tick - now
        messages.append(message)
        now = tick
    return messages
