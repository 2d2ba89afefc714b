import pytest

from midinet.errors import OptionError
from midinet.midi.general_midi import (
    PERCUSSION,
    PROGRAM_FAMILIES,
    PROGRAM_NAMES,
    find_instruments,
    program_name,
)


def test_general_midi_has_128_programs_in_16_families():
    assert len(PROGRAM_NAMES) == len(set(PROGRAM_NAMES)) == 128
    assert len(PROGRAM_FAMILIES) == len(set(PROGRAM_FAMILIES)) == 16


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (0, "Acoustic Grand Piano"),
        (19, "Church Organ"),
        (24, "Acoustic Guitar (nylon)"),
        (40, "Violin"),
        (48, "String Ensemble 1"),
        (56, "Trumpet"),
        (73, "Flute"),
        (80, "Lead 1 (square)"),
        (104, "Sitar"),
        (117, "Melodic Tom"),
        (127, "Gunshot"),
    ],
)
def test_names_stand_at_their_program(program, name):
    assert program_name(program) == name


def test_percussion_has_one_name_whatever_its_program():
    assert program_name(0, is_drum=True) == program_name(25, is_drum=True) == PERCUSSION


@pytest.mark.parametrize(
    ("text", "programs", "percussion"),
    [
        ("0", [0], False),
        ("127", [127], False),
        ("Flute", [73], False),  # though Pan Flute also has the word
        ("pan flute", [75], False),
        ("clean guitar", [27], False),
        ("honky tonk", [3], False),
        ("harpsi", [6], False),
        ("STRINGS", list(range(40, 48)), False),
        ("piano", list(range(8)), False),
        ("bass", list(range(32, 40)), False),
        ("lead", list(range(80, 88)), False),
        ("Percussive", list(range(112, 120)), False),
        ("drums", [], True),
        ("Percussion", [], True),
        ("drum kit", [], True),
        ("violin, 41, drums", [40, 41], True),
        ("viola,strings", list(range(40, 48)), False),
    ],
)
def test_instruments_are_found_by_what_people_call_them(text, programs, percussion):
    assert find_instruments(text) == (programs, percussion)


@pytest.mark.parametrize(("program", "name"), enumerate(PROGRAM_NAMES))
def test_each_name_finds_its_program(program, name):
    assert find_instruments(name) == ([program], False)
    assert find_instruments(name.upper()) == ([program], False)


@pytest.mark.parametrize(("family", "name"), enumerate(PROGRAM_FAMILIES))
def test_each_family_finds_its_eight_programs(family, name):
    assert find_instruments(name) == (list(range(8 * family, 8 * family + 8)), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("128", "128"),
        ("-1", "0 to 127"),
        ("", "0-127"),
        ("piano,", "0-127"),
        ("voilin", "Violin"),
        ("precussion", "Percussion"),
        ("sax", "Tenor Sax (66)"),
        ("electric guitar", "Electric Guitar (jazz) (26)"),
        ("synth", "Synth Pad"),
        ("percuss", "Chromatic Percussion"),
        ("qqq", "qqq"),
    ],
)
def test_an_unknown_or_unclear_instrument_is_named_with_what_it_could_be(text, said):
    with pytest.raises(OptionError) as caught:
        find_instruments(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
