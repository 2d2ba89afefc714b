"""The notes of a MIDI file by mido and a plain loop over its messages: the judge of the reader.

Slow, and written without a look at the reader: by the rules of MIDI alone.
"""

from __future__ import annotations

import bisect
import io
from collections import defaultdict, deque
from pathlib import Path

import mido
import numpy as np

from midinet.midi.notes import Notes


def notes_by_mido(source: str | Path | bytes, sustain: bool = True) -> Notes:
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

    program, pedal = [0] * 16, [False] * 16
    sounding, stroke_ms = defaultdict(deque), {}
    held = defaultdict(list)
    notes = []
    for tick, _, _, message in messages:
        now = to_ms(tick)
        channel = getattr(message, "channel", None)
        if message.type == "program_change":
            program[channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            is_drum = channel == 9
            note = [now, end_ms, program[channel], message.note, message.velocity, is_drum]
            notes.append(note)
            sounding[channel, message.note].append(note)
            stroke_ms[channel, message.note] = now
        elif message.type in ("note_on", "note_off"):
            queue = sounding[channel, message.note]
            # A late note-off ends all strokes of its key, an early one the oldest.
            is_late = round(now - stroke_ms.get((channel, message.note), 0), 6) >= 50
            for _ in range(len(queue) if is_late else min(len(queue), 1)):
                note = queue.popleft()
                if sustain and pedal[channel]:
                    held[channel].append(note)
                else:
                    note[1] = now
        elif message.type == "control_change" and message.control == 120:
            for key, queue in sounding.items():
                if key[0] == channel:
                    held[channel].extend(queue)
                    queue.clear()
            _release(held[channel], now)
        elif message.type == "control_change" and message.control == 123:
            for key, queue in sounding.items():
                if key[0] == channel:
                    held[channel].extend(queue)
                    queue.clear()
            if not (sustain and pedal[channel]):
                _release(held[channel], now)
        elif message.type == "control_change" and message.control in (64, 121):
            pedal[channel] = message.control == 64 and message.value >= 64
            if not pedal[channel]:
                _release(held[channel], now)
    columns = list(zip(*notes, strict=True)) or [()] * 6
    kinds = (np.float64, np.float64, np.uint8, np.uint8, np.uint8, bool)
    return Notes(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def _release(held: list, now: float) -> None:
    for note in held:
        note[1] = now
    held.clear()


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
