"""A page to listen to: one HTML file that draws pieces as piano rolls and plays them.

The page needs no network and no program but a browser. Its notes, the MIDI files to download and
the samples that its notes use are in it, as JSON; `page/` holds its markup, style and scripts.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import json
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from midinet.errors import AudioError
from midinet.midi.general_midi import program_name
from midinet.midi.notes import Notes
from midinet.rendering.piano_roll import DRUM_ROWS, summarize
from midinet.rendering.player_sounds import PlayerSounds
from midinet.rendering.soundfont import SoundFont, find_bundled_soundfont, read_soundfont
from midinet.rendering.style import drawable, nth_colour

_SCRIPTS = ("envelopes.js", "sound.js", "roll.js", "controls.js")
_NOTEBOOK_HEIGHT_PX = 760

# Loudness: the loud parts of a piece are brought to about this level.
_TARGET_DB = -12.0
_LOUD_QUANTILE = 0.9
_MAX_GAIN = 20.0
_LOUDNESS_STEP_MS = 100


@dataclasses.dataclass(frozen=True)
class PlayerPiece:
    """A piece of music for the page.

    Attributes:
        title: its heading.
        notes: the music.
        midi: the bytes of the MIDI file that the page offers for download.
        file_name: the name of that file.
        seed_end_ms: where the seed ends and the continuation begins, in milliseconds.
        kept: names of the instruments that were not composed.
        facts: names and values to show below, such as the model and the random seed.
        command: the command line that composes the piece again.
    """

    title: str
    notes: Notes
    midi: bytes
    file_name: str
    seed_end_ms: float | None = None
    kept: Collection[str] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""


def player_page(pieces: Sequence[PlayerPiece], soundfont: str | Path | None = None) -> str:
    """Makes a page that plays pieces.

    Args:
        pieces: at least one; several are put side by side, to compare them.
        soundfont: an .sf2 file with the sounds; None takes the one that comes with pretty_midi.

    Returns:
        The HTML, complete in itself.

    Raises:
        AudioError: the SoundFont is missing or can't be used.

    Example:
        >>> midi = Path("song.mid").read_bytes()
        >>> page = player_page([PlayerPiece("My song", read_midi(midi), midi, "song.mid")])
        >>> Path("song.html").write_text(page, encoding="utf-8")
    """
    font = open_page_font(soundfont)
    sounds = PlayerSounds(font)
    data = {
        "pieces": [_describe_piece(piece, sounds) for piece in pieces],
        "drumLanes": _drum_lanes(),
        "voiceFields": list(sounds.voices[0]) if sounds.voices else [],
        "voices": [list(voice.values()) for voice in sounds.voices],
        "samples": sounds.encode_samples(),
        "font": font.path.name,
    }
    texts = {
        "title": html.escape(drawable(" · ".join(piece.title for piece in pieces))),
        "style": _read("style.css"),
        "script": "\n".join(map(_read, _SCRIPTS)),
        "data": _as_json(data),
    }
    before, *parts = _read("page.html").split("{{")
    filled = [before]
    for part in parts:  # one pass: a title that holds "{{data}}" stays as it is
        name, after = part.split("}}", 1)
        filled += [texts[name], after]
    return "".join(filled)


def open_page_font(soundfont: str | Path | None = None) -> SoundFont:
    """Opens the SoundFont that `player_page` would take.

    Raises:
        AudioError: it is missing or can't be used.
    """
    font = read_soundfont(find_bundled_soundfont() if soundfont is None else soundfont)
    if font.is_compressed:
        raise AudioError(f"{font.path} holds compressed samples: for a page take an .sf2 file")
    return font


def notebook_html(page: str) -> str:
    """Wraps a page so that a notebook shows it in the output of a cell.

    Example:
        >>> from IPython.display import HTML, display
        >>> display(HTML(notebook_html(page)))
    """
    # In a frame the page's style and keys do not touch the notebook.
    return (
        f'<div><iframe title="midinet" allow="autoplay; clipboard-write" '
        f'style="width: 100%; height: {_NOTEBOOK_HEIGHT_PX}px; border: 0" '
        f'srcdoc="{html.escape(page)}"></iframe></div>'
    )


def _read(name: str) -> str:
    return resources.files("midinet.rendering").joinpath("page", name).read_text(encoding="utf-8")


def _as_json(data: object) -> str:
    """JSON that may stand in a script element: nothing in it can end the element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _drum_lanes() -> list[dict[str, Any]]:
    """The rows of the percussion lane from the top down; the last kind has all other keys."""
    named = {key for _, keys in DRUM_ROWS for key in keys}
    others = [key for key in range(128) if key not in named]
    return [{"name": name, "keys": sorted(keys) or others} for name, keys in reversed(DRUM_ROWS)]


def _describe_piece(piece: PlayerPiece, sounds: PlayerSounds) -> dict[str, Any]:
    """What the page holds of a piece: times in milliseconds, onsets as steps from the last one."""
    notes = piece.notes
    programs = np.unique(notes.program[~notes.is_drum]).tolist()
    players = [(program, False) for program in programs] + [(0, True)] * bool(notes.is_drum.any())
    index_of = {player: index for index, player in enumerate(players)}
    start_ms = np.rint(notes.start_ms).astype(int)
    end_ms = np.rint(notes.end_ms).astype(int)

    voice_sets: dict[tuple[int, ...], int] = {}
    instrument, sets = [], []
    columns = (notes.program, notes.is_drum, notes.pitch, notes.velocity)
    for program, is_drum, pitch, velocity in zip(*(c.tolist() for c in columns), strict=True):
        instrument.append(index_of[0 if is_drum else program, is_drum])
        voices = sounds.voices_for(program, is_drum, pitch, velocity)
        sets.append(voice_sets.setdefault(voices, len(voice_sets)))
    by_set = list(voice_sets)
    for number, length_ms in zip(sets, (end_ms - start_ms).tolist(), strict=True):
        sounds.use(by_set[number], length_ms / 1000)
    return {
        "title": drawable(piece.title),
        "summary": summarize(notes, len(players)),
        "fileName": drawable(piece.file_name),
        "midi": base64.b64encode(piece.midi).decode(),
        "duration": max(1.0, notes.duration_ms / 1000),
        "seedEnd": None if piece.seed_end_ms is None else piece.seed_end_ms / 1000,
        "facts": [[drawable(name), drawable(value)] for name, value in piece.facts.items()],
        "command": drawable(piece.command),
        "instruments": [
            {
                "name": program_name(program, is_drum),
                "isDrum": is_drum,
                "isKept": program_name(program, is_drum) in piece.kept,
                "colour": to_hex(nth_colour(index)),
            }
            for index, (program, is_drum) in enumerate(players)
        ],
        "gain": _gain(notes, [sounds.power(by_set[number]) for number in sets]),
        "voiceSets": by_set,
        "notes": {
            "startStepMs": np.diff(start_ms, prepend=0).tolist(),
            "lengthMs": (end_ms - start_ms).tolist(),
            "instrument": instrument,
            "pitch": notes.pitch.tolist(),
            "velocity": notes.velocity.tolist(),
            "voiceSet": sets,
        },
    }


def _gain(notes: Notes, powers: list[float]) -> float:
    """The factor that makes a piece as loud as others, estimated from the power of its notes.

    Args:
        notes: N notes.
        powers: of each note's samples at full velocity.
    """
    if not len(notes):
        return 1.0
    power = np.array(powers) * (notes.velocity / 127.0) ** 4  # amplitude: velocity squared
    first = (notes.start_ms / _LOUDNESS_STEP_MS).astype(int)
    last = np.maximum(first + 1, (notes.end_ms / _LOUDNESS_STEP_MS).astype(int))
    steps = np.zeros(last.max() + 1)
    np.add.at(steps, first, power)
    np.add.at(steps, last, -power)
    sounding = np.cumsum(steps)
    loud = np.quantile(sounding[sounding > 1e-9], _LOUD_QUANTILE) if power.any() else 1.0
    return float(min(_MAX_GAIN, 10 ** (_TARGET_DB / 20) / np.sqrt(loud)))
