"""The instruments of General MIDI: their names, their families, and how users refer to them.

Source: MIDI Association, General MIDI System Level 1, table 1 (families) and table 2 (programs).
Programs are numbered from 0 here, as in MIDI files; printed tables often number them from 1.
"""

from __future__ import annotations

import difflib
import re

from midinet.errors import OptionError

# One line is one family of eight.
PROGRAM_FAMILIES: tuple[str, ...] = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass"),
    *("Reed", "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive"),
    "Sound Effects",
)
PROGRAM_NAMES: tuple[str, ...] = (
    # Piano
    *("Acoustic Grand Piano", "Bright Acoustic Piano", "Electric Grand Piano", "Honky-tonk Piano"),
    *("Electric Piano 1", "Electric Piano 2", "Harpsichord", "Clavinet"),
    # Chromatic Percussion
    *("Celesta", "Glockenspiel", "Music Box", "Vibraphone"),
    *("Marimba", "Xylophone", "Tubular Bells", "Dulcimer"),
    # Organ
    *("Drawbar Organ", "Percussive Organ", "Rock Organ", "Church Organ"),
    *("Reed Organ", "Accordion", "Harmonica", "Tango Accordion"),
    # Guitar
    *("Acoustic Guitar (nylon)", "Acoustic Guitar (steel)", "Electric Guitar (jazz)"),
    *("Electric Guitar (clean)", "Electric Guitar (muted)", "Overdriven Guitar"),
    *("Distortion Guitar", "Guitar Harmonics"),
    # Bass
    *("Acoustic Bass", "Electric Bass (finger)", "Electric Bass (pick)", "Fretless Bass"),
    *("Slap Bass 1", "Slap Bass 2", "Synth Bass 1", "Synth Bass 2"),
    # Strings
    *("Violin", "Viola", "Cello", "Contrabass"),
    *("Tremolo Strings", "Pizzicato Strings", "Orchestral Harp", "Timpani"),
    # Ensemble
    *("String Ensemble 1", "String Ensemble 2", "Synth Strings 1", "Synth Strings 2"),
    *("Choir Aahs", "Voice Oohs", "Synth Voice", "Orchestra Hit"),
    # Brass
    *("Trumpet", "Trombone", "Tuba", "Muted Trumpet"),
    *("French Horn", "Brass Section", "Synth Brass 1", "Synth Brass 2"),
    # Reed
    *("Soprano Sax", "Alto Sax", "Tenor Sax", "Baritone Sax"),
    *("Oboe", "English Horn", "Bassoon", "Clarinet"),
    # Pipe
    *("Piccolo", "Flute", "Recorder", "Pan Flute"),
    *("Blown Bottle", "Shakuhachi", "Whistle", "Ocarina"),
    # Synth Lead
    *("Lead 1 (square)", "Lead 2 (sawtooth)", "Lead 3 (calliope)", "Lead 4 (chiff)"),
    *("Lead 5 (charang)", "Lead 6 (voice)", "Lead 7 (fifths)", "Lead 8 (bass + lead)"),
    # Synth Pad
    *("Pad 1 (new age)", "Pad 2 (warm)", "Pad 3 (polysynth)", "Pad 4 (choir)"),
    *("Pad 5 (bowed)", "Pad 6 (metallic)", "Pad 7 (halo)", "Pad 8 (sweep)"),
    # Synth Effects
    *("FX 1 (rain)", "FX 2 (soundtrack)", "FX 3 (crystal)", "FX 4 (atmosphere)"),
    *("FX 5 (brightness)", "FX 6 (goblins)", "FX 7 (echoes)", "FX 8 (sci-fi)"),
    # Ethnic
    *("Sitar", "Banjo", "Shamisen", "Koto"),
    *("Kalimba", "Bagpipe", "Fiddle", "Shanai"),
    # Percussive
    *("Tinkle Bell", "Agogo", "Steel Drums", "Woodblock"),
    *("Taiko Drum", "Melodic Tom", "Synth Drum", "Reverse Cymbal"),
    # Sound Effects
    *("Guitar Fret Noise", "Breath Noise", "Seashore", "Bird Tweet"),
    *("Telephone Ring", "Helicopter", "Applause", "Gunshot"),
)
PERCUSSION = "Percussion"

_FAMILY_SIZE = len(PROGRAM_NAMES) // len(PROGRAM_FAMILIES)
_PERCUSSION_WORDS = ("percussion", "drums", "drum", "drum kit", "drumkit", "drum set")
_MAX_MATCHES_NAMED = 8


def program_name(program: int, is_drum: bool = False) -> str:
    """The General MIDI name of a program 0-127; percussion has one name, whatever its kit."""
    return PERCUSSION if is_drum else PROGRAM_NAMES[program]


def find_instruments(text: str) -> tuple[list[int], bool]:
    """Finds the instruments that a user names.

    Each part between commas is a program number 0-127, a name, a family (which stands for its
    eight programs), words that occur in only one name or family (in any case and order;
    beginnings of words are enough), or percussion.

    Returns:
        The programs in ascending order, and whether percussion is among the instruments.

    Raises:
        OptionError: no instrument has such a name, or several do; the message lists candidates.

    Example:
        >>> find_instruments("40, clean guitar, drums")
        ([27, 40], True)
    """
    programs: set[int] = set()
    percussion = False
    for part in text.split(","):
        if " ".join(_words(part)) in _PERCUSSION_WORDS:
            percussion = True
        else:
            programs.update(_find_programs(part.strip()))
    return sorted(programs), percussion


def _find_programs(text: str) -> list[int]:
    """The programs that one part between commas names."""
    words = _words(text)
    if re.fullmatch(r"[+-]?[0-9]{1,6}", text):
        if not 0 <= int(text) < len(PROGRAM_NAMES):
            raise OptionError(
                f"instrument {text}: General MIDI programs are 0 to {len(PROGRAM_NAMES) - 1}"
            )
        return [int(text)]
    for names, size in ((PROGRAM_NAMES, 1), (PROGRAM_FAMILIES, _FAMILY_SIZE)):
        for index, name in enumerate(names):
            if words == _words(name):
                return list(range(index * size, (index + 1) * size))
    families = [i for i, name in enumerate(PROGRAM_FAMILIES) if _is_partial(words, name)]
    if len(families) == 1:
        return list(range(families[0] * _FAMILY_SIZE, (families[0] + 1) * _FAMILY_SIZE))
    programs = [i for i, name in enumerate(PROGRAM_NAMES) if _is_partial(words, name)]
    if len(programs) == 1 and not families:
        return programs
    raise OptionError(_explain(text, families, programs))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _is_partial(words: list[str], name: str) -> bool:
    """Whether each word begins some word of the name."""
    return bool(words) and all(any(n.startswith(word) for n in _words(name)) for word in words)


def _explain(text: str, families: list[int], programs: list[int]) -> str:
    """The message for a name that fits no instrument, or these families and programs."""
    matches = [PROGRAM_FAMILIES[i] for i in families]
    matches += [f"{PROGRAM_NAMES[i]} ({i})" for i in programs]
    if matches:
        more = len(matches) - _MAX_MATCHES_NAMED
        listed = ", ".join(matches[:_MAX_MATCHES_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"instrument {text!r} is not clear: it could be {listed}"
    known = {name.lower(): name for name in (PERCUSSION, *PROGRAM_FAMILIES, *PROGRAM_NAMES)}
    close = [known[name] for name in difflib.get_close_matches(text.lower(), known, n=3)]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"no General MIDI instrument is called {text!r}: {hint}"
        "generate.py --list instruments shows all names, and their numbers 0-127"
    )
