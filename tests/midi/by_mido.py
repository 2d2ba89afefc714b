"""The notes of a MIDI file by mido and a plain loop over its messages: the judge of the reader.

Slow, and written without a look at the reader: by the rules of MIDI alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import io
import re
from pathlib import Path

import mido
import numpy as np

from midinet.midi.notes import Notes


@dataclasses.dataclass
class _Note:
    start_ms: float
    end_ms: float
    program: int
    pitch: int
    velocity: int
    is_drum: bool
    loudness: list[int]  # volume x expression at the onset and whenever they change before the end
    caught: bool = False  # by the sostenuto pedal


class _Channel:
    """What is set on a channel, and what sounds there."""

    def __init__(self, number: int, sustain: bool) -> None:
        self.number, self.has_pedals = number, sustain
        self.program, self.volume, self.expression = 0, 100, 127
        self.sustain, self.sostenuto = False, False
        self.pressed: dict[int, list[_Note]] = {}  # by pitch, oldest first
        self.released: list[_Note] = []  # but still sounding
        self.stroke_ms: dict[int, float] = {}  # by pitch, the latest
        self.reset_drums()

    def reset_drums(self) -> None:
        self.declared_drums, self.bank = self.number == 9, 0

    def is_drum(self, mode: str) -> bool:
        drum_banks = (120,) if mode == "GS" else (120, 126, 127)
        return self.declared_drums or self.bank in drum_banks

    def strike(self, pitch: int, velocity: int, now: float, song_end: float, mode: str) -> _Note:
        loudness = [self.volume * self.expression]
        what = self.program, pitch, velocity, self.is_drum(mode)
        note = _Note(now, song_end, *what, loudness)
        self.pressed.setdefault(pitch, []).append(note)
        self.stroke_ms[pitch] = now
        return note

    def release(self, pitch: int, now: float) -> None:
        """A late note-off ends all strokes of its key, an early one the oldest."""
        strokes = self.pressed.get(pitch, [])
        is_late = round(now - self.stroke_ms.get(pitch, 0), 6) >= 50
        released = strokes[:] if is_late else strokes[:1]
        del strokes[: len(released)]
        self.released += released
        self.let_go(now)

    def release_all(self, now: float) -> None:
        for strokes in self.pressed.values():
            self.released += strokes
            strokes.clear()
        self.let_go(now)

    def let_go(self, now: float) -> None:
        """Ends what no pedal holds."""
        for note in self.released:
            if not self.sustain and not note.caught:
                note.end_ms = now
        self.released = [note for note in self.released if self.sustain or note.caught]

    def sounding(self) -> list[_Note]:
        return sum(self.pressed.values(), self.released)

    def control(self, number: int, value: int, now: float) -> None:
        if number == 0:
            self.bank = value
        elif number == 7:
            self.volume = value
        elif number == 11:
            self.expression = value
        elif number == 64 and self.has_pedals:
            self.sustain = value >= 64
        elif number == 66 and self.has_pedals:
            was_down, self.sostenuto = self.sostenuto, value >= 64
            for note in self.sounding() if not self.sostenuto else ():
                note.caught = False
            for strokes in self.pressed.values() if self.sostenuto and not was_down else ():
                for note in strokes:
                    note.caught = True
        elif number == 120:
            pedals, self.sustain = self.sustain, False
            for note in self.sounding():
                note.caught = False
            self.release_all(now)
            self.sustain = pedals
        elif number == 121:
            self.sustain, self.sostenuto, self.expression = False, False, 127
            for note in self.sounding():
                note.caught = False
        elif number in (123, 124, 125, 126, 127):
            self.release_all(now)
        self.let_go(now)
        if number in (7, 11, 121):
            for note in self.sounding():
                note.loudness.append(self.volume * self.expression)


class _Song:
    """The channels of all ports, by (port, number), and the mode of the synthesiser."""

    def __init__(self, sustain: bool) -> None:
        self.sustain, self.mode = sustain, ""
        self.channels: dict[tuple[int, int], _Channel] = {}

    def channel(self, port: int, number: int) -> _Channel:
        return self.channels.setdefault((port, number), _Channel(number, self.sustain))

    def system_exclusive(self, port: int, data: tuple[int, ...]) -> None:
        text = bytes(data).hex()
        mode = {
            r"41..4212(40007f|00007f)": "GS",
            r"431.4c00007e": "XG",
            r"7e..09(01|03)": "GM",
        }
        for pattern, name in mode.items():
            if re.match(pattern, text):
                self.mode = name
                for channel in self.channels.values():
                    channel.reset_drums()
        if found := re.match(r"41..4212401(.)15([0-7].)", text):
            part, value = (int(digits, 16) for digits in found.groups())
            number = [9, *range(9), *range(10, 16)][part]
        elif found := re.match(r"431.4c080(.)07([0-7].)", text):
            number, value = (int(digits, 16) for digits in found.groups())
        else:
            return
        channel = self.channel(port, number)
        channel.declared_drums, channel.bank = value > 0, 0


def notes_by_mido(source: str | Path | bytes, sustain: bool = True, volume: bool = True) -> Notes:
    """Reads the notes of a file of format 0 or 1 with ticks per beat."""
    opened = {"file": io.BytesIO(source)} if isinstance(source, bytes) else {"filename": source}
    file = mido.MidiFile(clip=True, **opened)
    messages = []
    for track_number, track in enumerate(file.tracks):
        tick, port = 0, 0
        for number, message in enumerate(track):
            tick += message.time
            if message.type == "midi_port":
                port = message.port
            messages.append((tick, track_number, number, port, message))
    messages.sort(key=lambda entry: entry[:3])
    to_ms = _tempo_map(messages, file.ticks_per_beat)
    end_ms = to_ms(max((tick for tick, *_ in messages), default=0))

    song = _Song(sustain)
    notes = []
    for tick, _, _, port, message in messages:
        now = to_ms(tick)
        channel = song.channel(port, getattr(message, "channel", 0))
        if message.type == "program_change":
            channel.program = message.program
        elif message.type == "note_on" and message.velocity > 0:
            notes.append(channel.strike(message.note, message.velocity, now, end_ms, song.mode))
        elif message.type in ("note_on", "note_off"):
            channel.release(message.note, now)
        elif message.type == "control_change":
            channel.control(message.control, message.value, now)
        elif message.type == "sysex":
            song.system_exclusive(port, message.data)
    if volume:
        notes = _as_heard(notes)
    columns = [
        np.array([getattr(note, field.name) for note in notes], kind)
        for field, kind in zip(
            dataclasses.fields(_Note),
            (np.float64, np.float64, np.uint8, np.uint8, np.uint8, bool),
            strict=False,
        )
    ]
    return Notes(*columns)


def _as_heard(notes: list[_Note]) -> list[_Note]:
    """The notes that are heard, with velocities in proportion to volume x expression."""
    heard = {}  # number of a note -> its volume x expression
    for number, note in enumerate(notes):
        audible = [product for product in note.loudness if product]
        if note.loudness[0]:
            heard[number] = note.loudness[0]
        elif audible:  # to the end of the fade-in
            fade = note.loudness[note.loudness.index(audible[0]) :]
            falls = (i for i in range(1, len(fade)) if fade[i] < fade[i - 1])
            heard[number] = fade[next(falls, len(fade)) - 1]
    for number, product in heard.items():
        exact = notes[number].velocity * product / max(heard.values())
        notes[number].velocity = max(1, int(exact + 0.5))
    return [notes[number] for number in heard]


def _tempo_map(messages: list, ticks_per_beat: int):
    """A function from ticks to milliseconds."""
    last_on_tick = {tick: m.tempo for tick, _, _, _, m in messages if m.type == "set_tempo"}
    ticks, starts_ms, ms_per_tick = [0], [0.0], [500 / ticks_per_beat]
    for tick, tempo in sorted(last_on_tick.items()):
        starts_ms.append(starts_ms[-1] + (tick - ticks[-1]) * ms_per_tick[-1])
        ticks.append(tick)
        ms_per_tick.append(tempo / 1000 / ticks_per_beat)

    def to_ms(tick: int) -> float:
        segment = bisect.bisect_right(ticks, tick) - 1
        return starts_ms[segment] + (tick - ticks[segment]) * ms_per_tick[segment]

    return to_ms
