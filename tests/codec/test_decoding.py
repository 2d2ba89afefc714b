"""Tokens -> notes: every rule of the decoding, for any sequence of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.vocabulary import PAD
from tests.codec.readable_tokens import DRUM, off, on, program, rows_of, velocity, wait


@pytest.mark.parametrize(
    ("what", "tokens", "rows"),
    [
        ("no tokens, no notes", [], []),
        ("an unclosed note ends with the song", [on(60), wait(500)], [(0, 500, 0, 60, 64)]),
        ("but lasts one step at least", [on(60)], [(0, 10, 0, 60, 64)]),
        ("a release of a silent note is ignored", [off(60), wait(10), off(61)], []),
        (
            "an onset of a sounding note ends it",
            [on(60), wait(50), on(60), wait(50), off(60)],
            [(0, 50, 0, 60, 64), (50, 100, 0, 60, 64)],
        ),
        ("a note without time is none", [on(60), off(60), wait(50)], []),
        ("of onsets at once the last counts", [on(60), velocity(8), on(60)], [(0, 10, 0, 60, 8)]),
        ("PAD is skipped", [PAD, on(60), PAD, wait(20), PAD, off(60)], [(0, 20, 0, 60, 64)]),
        ("velocity 0 would be silence", [velocity(0), on(60)], [(0, 10, 0, 60, 1)]),
        (
            "a release reaches only the current instrument",
            [on(60), wait(10), program(5), off(60), wait(10), program(0), off(60)],
            [(0, 20, 0, 60, 64)],
        ),
        (
            "percussion lasts 100 ms, or until the next stroke",
            [program(117), on(36), wait(50), on(36), wait(500)],
            [(0, 50, DRUM, 36, 64), (50, 150, DRUM, 36, 64)],
        ),
        (
            "percussion takes no release",
            [program(117), on(36), wait(20), off(36), wait(500)],
            [(0, 100, DRUM, 36, 64)],
        ),
        (
            "notes are in order of onset, program, pitch",
            [program(5), on(61), on(60), program(2), on(70), wait(10)],
            [(0, 10, 2, 70, 64), (0, 10, 5, 60, 64), (0, 10, 5, 61, 64)],
        ),
    ],
)
def test_decoding(what, tokens, rows):
    assert rows_of(tokens_to_notes(np.array(tokens, np.int64))) == rows, what


def test_without_a_drum_program_every_program_is_read_literally():
    tokens = [program(117), on(60), wait(300), off(60)]
    assert rows_of(tokens_to_notes(np.array(tokens), None)) == [(0, 300, 117, 60, 64)]


@pytest.mark.parametrize(
    ("what", "seed", "continuation", "rows"),
    [
        ("the instrument", [program(9)], [on(60), wait(10)], [(0, 10, 9, 60, 64)]),
        ("the velocity", [velocity(100)], [on(60), wait(10)], [(0, 10, 0, 60, 100)]),
        ("time starts anew", [wait(700)], [on(60), wait(10)], [(0, 10, 0, 60, 64)]),
        ("sounding notes", [on(60), wait(700)], [wait(30), off(60)], [(0, 30, 0, 60, 64)]),
        ("silent notes", [on(60), wait(70), off(60)], [wait(30), off(60)], []),
        ("ends", [on(60), wait(70)], [off(60), on(61), wait(10)], [(0, 10, 0, 61, 64)]),
        ("no old strokes", [program(117), on(36), wait(50)], [wait(90)], []),
        ("nothing", [], [on(60), wait(10)], [(0, 10, 0, 60, 64)]),
    ],
)
def test_a_continuation_knows_what_its_seed_left(what, seed, continuation, rows):
    tokens = np.array(seed + continuation)
    assert rows_of(tokens_to_notes(tokens, first=len(seed))) == rows, what
