"""The notes of a song as arrays: what the MIDI reader returns and the encoder takes."""

from __future__ import annotations

import dataclasses

import numpy as np

from midinet.midi.tempo_map import TempoMap, Times

DRUM_CHANNEL = 9  # the tenth; MIDI counts channels from 0


@dataclasses.dataclass(frozen=True)
class Notes:
    """The notes of a song as arrays of one length N, ordered by onset.

    Attributes:
        start_ms: `(N,)` float64, onset in milliseconds from the beginning of the song.
        end_ms: `(N,)` float64, release in milliseconds, never before the onset.
        program: `(N,)` uint8, General MIDI program 0-127 of the note's channel at its onset.
        pitch: `(N,)` uint8, 0-127.
        velocity: `(N,)` uint8, 1-127.
        is_drum: `(N,)` bool, whether the note is percussion.
        tempo_map: where the beats lie, if that is known.

    Example:
        >>> notes = read_midi("song.mid")
        >>> piano = notes[(notes.program < 8) & ~notes.is_drum]
    """

    start_ms: Times
    end_ms: Times
    program: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    is_drum: np.ndarray
    tempo_map: TempoMap | None = None

    def __len__(self) -> int:
        return len(self.start_ms)

    def __getitem__(self, selection: slice | np.ndarray) -> Notes:
        """The notes that a slice, a mask or an index array selects."""
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        tempo_map = arrays.pop("tempo_map")
        selected = {name: array[selection] for name, array in arrays.items()}
        return Notes(**selected, tempo_map=tempo_map)

    @property
    def duration_ms(self) -> float:
        """The end of the last note, in milliseconds; 0 without notes."""
        return float(self.end_ms.max()) if len(self) else 0.0
