import random
import struct

import numpy as np
import pytest

from midinet.errors import AudioError
from midinet.midi.notes import Notes
from midinet.rendering.soundfont import find_bundled_soundfont, read_soundfont
from midinet.rendering.soundfont_regions import LOOP, NO_LOOP
from midinet.rendering.synthesizer import render
from tests.rendering.tiny_soundfont import RATE_HZ, make_soundfont


@pytest.fixture
def read(tmp_path):
    """Makes and reads a SoundFont."""

    def make(**parts):
        path = tmp_path / "tiny.sf2"
        path.write_bytes(make_soundfont(**parts))
        return read_soundfont(path)

    return make


def only_region(font):
    (region,) = font.regions(0, is_drum=False)
    return region


def test_the_bundled_font_has_all_of_general_midi():
    path = find_bundled_soundfont()
    font = read_soundfont(path)
    assert 5e6 < path.stat().st_size < 7e6
    assert font.programs == tuple(range(128))
    assert font.drum_kits == (0, 8, 16, 24, 25, 32, 40, 48)
    assert font.is_general_midi
    assert not font.is_compressed
    for program in range(128):
        for velocity in (1, 64, 127):
            assert font.regions_for(program, False, 60, velocity), (program, velocity)
    # General MIDI's percussion key map. Source: General MIDI System Level 1, table 3.
    for kit in font.drum_kits:
        for key in range(35, 82):
            assert font.regions_for(kit, True, key, 100), (kit, key)


def test_samples_are_those_of_the_file(read):
    sample = np.arange(-500, 500, dtype="<i2")
    font = read(samples=[sample])
    region = only_region(font)
    assert font.samples[region.start : region.end].tolist() == sample.tolist()
    assert region.sample == ("Piano A4", RATE_HZ, 69, 0)
    assert font.samples.dtype == np.int16


def test_without_generators_a_region_is_as_the_specification_says(read):
    region = only_region(read())
    assert (region.keys, region.velocities) == ((0, 127), (0, 127))
    assert (region.root_key, region.scale_tuning_cents, region.loop_mode) == (69, 100, NO_LOOP)
    assert region.volume_envelope == (0, 0, 0, 0, 0, 0, 0, 0)
    assert region.modulation_envelope == (0, 0, 0, 0, 1, 0, 0, 0)
    assert region.attenuation_db == region.pan == region.exclusive_class == 0
    assert region.cutoff_hz == pytest.approx(19913, abs=1)
    assert region.vibrato.rate_hz == pytest.approx(8.176, abs=0.001)


def test_units_are_seconds_decibels_and_hertz(read):
    zone = {"attack": 1200, "hold": -1200, "decay": 0, "sustain": 250, "release": -2400}
    zone |= {"pan": -500, "attenuation": 100, "cutoff": 6900, "loop_mode": 1, "reverb": 300}
    region = only_region(read(instruments=[("one", [zone])]))
    assert region.volume_envelope == (0, 2, 0.5, 1, 25, 0.25, 0, 0)
    assert (region.pan, region.attenuation_db, region.cutoff_hz) == (-1, 4, 440)
    assert (region.loop_mode, region.reverb) == (LOOP, 0.3)


def test_a_zone_without_a_sample_holds_the_defaults_of_the_others(read):
    zones = [{"sample": None, "pan": 250, "attack": 0}, {"pan": -250}, {"keys": (60, 127)}]
    first, second = read(instruments=[("one", zones)]).regions(0, False)
    assert (first.pan, second.pan) == (-0.5, 0.5)
    assert first.volume_envelope.attack_s == second.volume_envelope.attack_s == 1


def test_a_preset_adds_to_its_instrument_but_cannot_change_its_sample(read):
    zone = {"fine_tune": 20, "loop_mode": 1, "root_key": 60, "keys": (40, 80)}
    added = {"fine_tune": -50, "loop_mode": 3, "root_key": 5, "keys": (60, 127)}
    region = only_region(read(instruments=[("one", [zone])], preset_zone=added))
    assert region.tuning_cents == -30
    assert (region.loop_mode, region.root_key, region.keys) == (1, 60, (60, 80))


def test_a_note_plays_the_regions_of_its_key_and_velocity(read):
    zones = [{"keys": (0, 59)}, {"keys": (60, 127), "velocities": (0, 63)}]
    zones += [{"keys": (60, 127), "velocities": (64, 127)}, {"keys": (100, 110), "sample": 1}]
    font = read(instruments=[("layers", zones)])
    regions = font.regions(0, False)
    for pitch, velocity, expected in (
        (59, 90, [0]),
        (60, 63, [1]),
        (60, 64, [2]),
        (105, 1, [1, 3]),
    ):
        played = font.regions_for(0, False, pitch, velocity)
        assert [regions.index(region) for region in played] == expected


@pytest.mark.parametrize(
    ("zone", "pitch", "factor"),
    [
        ({}, 81, 2),
        ({"root_key": 57}, 69, 2),
        ({"coarse_tune": -12}, 69, 0.5),
        ({"fine_tune": 50}, 69, 2 ** (0.5 / 12)),
        ({"scale_tuning": 50}, 93, 2),
        ({"scale_tuning": 0}, 20, 1),
        ({"fixed_key": 57}, 100, 0.5),
    ],
)
def test_the_pitch_follows_key_and_tuning(zone, pitch, factor, read):
    region = only_region(read(instruments=[("one", [zone])]))
    assert region.speed(pitch) == pytest.approx(RATE_HZ * factor)


def test_what_the_font_lacks_is_played_by_program_0(read):
    font = read(
        instruments=[("one", [{}]), ("two", [{"sample": 1}])],
        presets=[(0, 0, 0), (0, 40, 1), (128, 0, 1)],
    )
    names = [font.regions(p, d)[0].sample.name for p, d in ((40, False), (41, False), (25, True))]
    assert names == ["Other A4", "Piano A4", "Other A4"]
    assert font.programs == (0, 40)
    assert font.drum_kits == (0,)


def test_without_percussion_drums_are_silent(read):
    assert read(presets=[(0, 0, 0)]).regions(0, is_drum=True) == ()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, True),
        ({"names": ["FM Bell", "Piano"]}, False),
        ({"presets": [(0, 0, 0)]}, False),
        ({"presets": [(0, 1, 0), (128, 0, 0)]}, False),
    ],
    ids=["piano and drums", "bells", "no drums", "no program 0"],
)
def test_a_general_midi_font_begins_with_a_piano_and_has_percussion(parts, expected, read):
    assert read(**parts).is_general_midi is expected


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x04\0\0\0WAVE", b"PK\3\4 a zip file...."])
def test_what_is_no_soundfont_is_named(content, tmp_path):
    path = tmp_path / "piano.sf2"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"piano\.sf2 is not a SoundFont"):
        read_soundfont(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.sf2 can't be read: No such file"):
        read_soundfont(tmp_path / "gone.sf2")


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AudioError, match=r"pretty_midi.*pip install"):
        find_bundled_soundfont()


def read_everything(path):
    """Reads whatever a SoundFont holds, as a player may."""
    font = read_soundfont(path)
    assert font.is_general_midi in (True, False)
    for is_drum in (False, True):
        for region in font.regions(0, is_drum):
            assert 0 <= region.start < region.end <= len(font.samples)
            assert region.start <= region.loop_start or region.loop_mode == NO_LOOP
            assert region.loop_end <= region.end or region.loop_mode == NO_LOOP
            assert 0 < region.speed(60) < 1e16
            font.samples[region.start : region.end].sum()
    return font


def test_a_file_cut_short_anywhere_is_one_clear_error(tmp_path):
    whole = make_soundfont(instruments=[("two", [{"attack": 0}, {"sample": 1}])])
    tables = whole.index(b"pdta")
    path = tmp_path / "cut.sf2"
    for length in (*range(12, tables, 997), *range(tables, len(whole) - 1, 7)):
        cut = whole[:length]
        # With a length that fits what is left, the damage shows only in the chunks inside.
        for content in (cut, cut[:4] + struct.pack("<I", length - 8) + cut[8:]):
            path.write_bytes(content)
            with pytest.raises(AudioError, match=r"cut\.sf2 is a damaged SoundFont \("):
                read_soundfont(path)


def test_thousands_of_damaged_files_are_read_or_refused_but_never_crash(tmp_path):
    rng = random.Random(7)
    sine = np.rint(8000 * np.sin(np.arange(60))).astype("<i2")
    zones = [{"pan": 9, "sample": None}, {"attack": 0, "keys": (0, 60), "loop_mode": 1}]
    whole = make_soundfont(instruments=[("two", [*zones, {"sample": 1}])], samples=[sine, sine])
    tables = whole.index(b"pdta")  # most of the numbers that matter come after it
    path = tmp_path / "mutant.sf2"
    path.write_bytes(whole)
    messages = []
    notes = Notes(
        *(np.array([0.0, 30.0]), np.array([50.0, 90.0]), np.zeros(2, np.uint8)),
        *(np.array([60, 40], np.uint8), np.full(2, 100, np.uint8), np.array([False, True])),
    )
    for _ in range(4000):
        mutant = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            first = 12 if rng.random() < 0.1 else tables
            place = rng.randrange(first, len(whole) - 4)
            if rng.random() < 0.5:
                mutant[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            else:
                mutant[place : place + 4] = struct.pack("<I", rng.choice((0, 0xFFFFFFFF, 1 << 31)))
        with path.open("r+b") as file:  # in place: some file systems flush a file that is truncated
            file.write(mutant)
        try:
            font = read_everything(path)
            assert np.isfinite(render(notes, font, 8000)).all()
        except AudioError as error:
            messages.append(str(error))
    assert 400 < len(messages) < 3600
    assert all("mutant.sf2" in message and "\n" not in message for message in messages)
