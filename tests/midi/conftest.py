"""Files that between them use most of MIDI."""

from __future__ import annotations

import pytest

from tests.conftest import make_song
from tests.midi.midi_bytes import (
    event,
    meta,
    midi,
    saved,
    tempo,
    variable,
)
from tests.midi.rows import BEAT, CHANNEL_10, NOTE


@pytest.fixture(scope="module")
def songs() -> list[bytes]:
    """A few files that between them use most of MIDI."""
    melody = b"".join(
        event(0, 0x90 + i % 3, 40 + i % 40, 1 + i % 127)
        + (event(i % 200, 0xB0 + i % 3, 64, 127 * (i % 2)) if i % 5 == 0 else b"")
        + (event(0, 0xC0 + i % 3, i % 128) if i % 11 == 0 else b"")
        + event(i * 7 % 500, 0x80 + i % 3, 40 + i % 40, 0)
        for i in range(400)
    )
    strokes = (event(24, 36 + i % 9, 100 * (i % 2)) for i in range(999))
    conductor = tempo(0, 400_000) + tempo(5 * BEAT, 600_000) + meta(0, 3, b"conductor")
    sysex = b"\0\xf0" + variable(300) + bytes(299) + b"\xf7"
    tracks = conductor, melody, event(0, CHANNEL_10, 36, 100) + b"".join(strokes), sysex + NOTE
    plain = [saved(make_song(seed)) for seed in range(2)]
    return [midi(*tracks), midi(*tracks, file_format=2), midi(NOTE), *plain]
