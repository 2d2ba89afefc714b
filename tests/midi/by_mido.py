"""The notes of a MIDI file by mido and a plain loop over its messages: the judge of the reader.

Slow, and written without a look at the reader: by the rules of MIDI alone.
"""

from __future__ import annotations

import bisect
import dataclasses
import io
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


class _Channel:
    """What is set on a channel, and what sounds there."""

    def __init__(self, number: int, sustain: bool) -> None:
        self.number, self.sustain = number, sustain
        self.program, self.volume, self.expression, self.pedal = 0, 100, 127, False
        self.pressed: dict[int, list[_Note]] = {}  # by pitch, oldest first
        self.held: list[_Note] = []  # by the pedal
        self.stroke_ms: dict[int, float] = {}  # by pitch, the latest

    def strike(self, pitch: int, velocity: int, now: float, song_end: float) -> _Note:
        is_drum, loudness = self.number == 9, [self.volume * self.expression]
        note = _Note(now, song_end, self.program, pitch, velocity, is_drum, loudness)
        self.pressed.setdefault(pitch, []).append(note)
        self.stroke_ms[pitch] = now
        return note

    def release(self, pitch: int, now: float) -> None:
        """A late note-off ends all strokes of its key, an early one the oldest."""
        strokes = self.pressed.get(pitch, [])
        is_late = round(now - self.stroke_ms.get(pitch, 0), 6) >= 50
        released = strokes[:] if is_late else strokes[:1]
        del strokes[: len(released)]
        self.held += released
        if not self.pedal:
            self.let_go(now)

    def release_all(self, now: float) -> None:
        for strokes in self.pressed.values():
            self.held += strokes
            strokes.clear()
        if not self.pedal:
            self.let_go(now)

    def let_go(self, now: float) -> None:
        for note in self.held:
            note.end_ms = now
        self.held.clear()

    def control(self, number: int, value: int, now: float) -> None:
        if number in (120, 123):
            self.release_all(now)
        if number == 120:
            self.let_go(now)
        if number in (64, 121):
            self.pedal = number == 64 and value >= 64 and self.sustain
            if not self.pedal:
                self.let_go(now)
        if number == 7:
            self.volume = value
        if number in (11, 121):
            self.expression = 127 if number == 121 else value
        if number in (7, 11, 121):
            for note in sum(self.pressed.values(), self.held):
                note.loudness.append(self.volume * self.expression)


def notes_by_mido(source: str | Path | bytes, sustain: bool = True, volume: bool = True) -> Notes:
    """Reads the notes of a file of format 0 or 1 with ticks per beat."""
    opened = {"file": io.BytesIO(source)} if isinstance(source, bytes) else {"filename": source}
    file = mido.MidiFile(clip=True, **opened)
    messages = []
    for track_number, track in enumerate(file.tracks):
        tick = 0
        for number, message in enumerate(track):
            tick += message.time
            messages.append((tick, track_number, number, message))
    messages.sort(key=lambda entry: entry[:3])
    to_ms = _tempo_map(messages, file.ticks_per_beat)
    end_ms = to_ms(max((tick for tick, *_ in messages), default=0))

    channels = [_Channel(number, sustain) for number in range(16)]
    notes = []
    for tick, _, _, message in messages:
        now = to_ms(tick)
        channel = channels[getattr(message, "channel", 0)]
        if message.type == "program_change":
            channel.program = message.program
        elif message.type == "note_on" and message.velocity > 0:
            notes.append(channel.strike(message.note, message.velocity, now, end_ms))
        elif message.type in ("note_on", "note_off"):
            channel.release(message.note, now)
        elif message.type == "control_change":
            channel.control(message.control, message.value, now)
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
    last_on_tick = {tick: m.tempo for tick, _, _, m in messages if m.type == "set_tempo"}
    ticks, starts_ms, ms_per_tick = [0], [0.0], [500 / ticks_per_beat]
    for tick, tempo in sorted(last_on_tick.items()):
        starts_ms.append(starts_ms[-1] + (tick - ticks[-1]) * ms_per_tick[-1])
        ticks.append(tick)
        ms_per_tick.append(tempo / 1000 / ticks_per_beat)

    def to_ms(tick: int) -> float:
        segment = bisect.bisect_right(ticks, tick) - 1
        return starts_ms[segment] + (tick - ticks[segment]) * ms_per_tick[segment]

    return to_ms
