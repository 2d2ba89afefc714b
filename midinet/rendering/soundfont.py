"""SoundFont files (.sf2): which samples an instrument plays, and how.

A SoundFont nests its instruments: a preset ("Violin") consists of zones, each of which plays an
instrument for a range of keys; an instrument consists of zones, each of which plays a sample for a
range of keys. What a zone changes (tuning, envelopes, loudness) is a list of generators; those of
the preset are added to those of the instrument. Here the two levels are multiplied out into flat
regions, which is all that a player needs.

Source: E-mu Systems, "SoundFont Technical Specification", version 2.04, 2006.

Example:
    >>> font = read_soundfont(find_bundled_soundfont())
    >>> region, *_ = font.regions_for(program=40, is_drum=False, pitch=69, velocity=100)
    >>> region.sample.name
    'Violin G3'
    >>> samples = font.samples[region.start : region.end]  # int16, read from disk when used
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from midinet.errors import AudioError
from midinet.rendering.soundfont_file import COMPRESSED_SAMPLE, Gen, Tables, read_tables, zones
from midinet.rendering.soundfont_regions import (
    INSTRUMENT_DEFAULTS,
    PRESET_DEFAULTS,
    Region,
    make_region,
)

DRUM_BANK = 128
_PIANO_SAMPLE = re.compile(r"piano|pno|grand|steinway|yamaha|bosend", re.IGNORECASE)


class SoundFont:
    """An opened SoundFont; `read_soundfont` makes it.

    Attributes:
        path: the file.
        samples: `(frames,)` int16, all recordings end to end, mapped from the file.
    """

    def __init__(self, path: Path, samples: np.ndarray, tables: Tables):
        self.path = path
        self.samples = samples
        self._tables = tables
        presets = tables[b"phdr"][:-1]
        # The last one first, so that of two presets of one number the first one stays.
        self._presets = {
            (int(presets[i]["bank"]), int(presets[i]["program"])): i
            for i in reversed(range(len(presets)))
        }
        self._regions: dict[int, tuple[Region, ...]] = {}

    @property
    def programs(self) -> tuple[int, ...]:
        """The melodic programs of bank 0, ascending."""
        return tuple(sorted(program for bank, program in self._presets if bank == 0))

    @property
    def drum_kits(self) -> tuple[int, ...]:
        """The programs of the percussion bank, ascending."""
        return tuple(sorted(program for bank, program in self._presets if bank == DRUM_BANK))

    @property
    def is_general_midi(self) -> bool:
        """Whether program 0 plays samples of a piano, and there is a percussion bank."""
        if not self.drum_kits or 0 not in self.programs:
            return False
        return any(_PIANO_SAMPLE.search(r.sample.name) for r in self.regions(0, is_drum=False))

    @property
    def is_compressed(self) -> bool:
        """Whether the samples are Vorbis streams (.sf3), which only FluidSynth can play."""
        return bool((self._tables[b"shdr"]["type"][:-1] & COMPRESSED_SAMPLE).any())

    def regions(self, program: int, is_drum: bool) -> tuple[Region, ...]:
        """All regions of an instrument or, with `is_drum`, of a drum kit.

        Where the font lacks it, program 0 of the same bank stands in for it, as players do; a font
        without that gives no regions.
        """
        bank = DRUM_BANK if is_drum else 0
        index = self._presets.get((bank, program), self._presets.get((bank, 0)))
        if index is None:
            return ()
        if index not in self._regions:
            self._regions[index] = tuple(self._flatten(index))
        return self._regions[index]

    def regions_for(
        self, program: int, is_drum: bool, pitch: int, velocity: int
    ) -> tuple[Region, ...]:
        """The regions that a note plays at once: one, or several layers, or none."""
        return tuple(r for r in self.regions(program, is_drum) if r.plays(pitch, velocity))

    def _flatten(self, preset: int) -> Iterator[Region]:
        headers = self._tables[b"shdr"]
        for outer in zones(self._tables, b"p", preset, PRESET_DEFAULTS):
            instrument = int(outer[Gen.INSTRUMENT])
            for inner in zones(self._tables, b"i", instrument, INSTRUMENT_DEFAULTS):
                header = headers[inner[Gen.SAMPLE]]
                region = make_region(header, outer, inner, len(self.samples))
                if region is not None:
                    yield region


def find_bundled_soundfont() -> Path:
    """The General MIDI SoundFont that the pretty_midi package brings along.

    Raises:
        AudioError: the package or its font is missing.
    """
    # The package itself need not be imported for that.
    spec = importlib.util.find_spec("pretty_midi")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "TimGM6mb.sf2"
        if path.is_file():
            return path
    raise AudioError(
        "the package pretty_midi, whose SoundFont plays the music, is missing: "
        "pip install -r requirements.txt"
    )


def read_soundfont(path: str | Path) -> SoundFont:
    """Opens a SoundFont; its samples stay on disk until they are used.

    Args:
        path: an .sf2 file. An .sf3 file opens too, but its samples can't be used.

    Raises:
        AudioError: it can't be read, is no SoundFont, or is damaged; the message says what is
            wrong.
    """
    path = Path(path)
    return SoundFont(path, *read_tables(path))
