"""Composed tokens become music: what sounds at a cut, and what a seed leaves."""

import numpy as np

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import PROGRAM, TIME_SHIFT
from midinet.generation.pieces import to_notes
from midinet.generation.settings import GrammarRules


def test_a_note_that_the_seed_holds_longer_than_notes_may_is_kept():
    seed = np.array([276, 60, *[TIME_SHIFT.first + 99] * 5, 188, 62], np.uint16)
    made = np.array([TIME_SHIFT.first, 64], np.uint16)
    rules = GrammarRules(max_note_ms=2000)
    notes, _ = to_notes(seed, made, CodecSettings(), rules, inclusive=True)
    assert notes.pitch.tolist() == [60, 62, 64]
    assert notes.end_ms.tolist() == [5000, 5510, 5510]


def test_what_sounds_at_the_cut_rings_on_but_no_longer_than_notes_may():
    start = np.array([276, 60, TIME_SHIFT.first + 99, 62], np.uint16)
    rules = GrammarRules(max_note_ms=1200)
    notes, _ = to_notes(start[:0], start, CodecSettings(), rules, inclusive=True)
    assert notes.pitch.tolist() == [60, 62]
    assert notes.end_ms.tolist() == [1200, 1500]


def test_a_decoded_continuation_knows_what_the_seed_left():
    seed = np.array([PROGRAM.first + 30, 280, 60], np.uint16)
    made = np.array([TIME_SHIFT.first + 9, 60 + 128, 64], np.uint16)
    notes, end_ms = to_notes(seed, made, CodecSettings(), GrammarRules(), inclusive=False)
    assert end_ms is None
    assert notes.program.tolist() == [30, 30]
    assert notes.pitch.tolist() == [60, 64]  # the seed's note sounds on from the beginning
    assert notes.start_ms.tolist() == [0, 100]
    assert notes.velocity.tolist() == [96, 96]
    whole, end_ms = to_notes(seed, made, CodecSettings(), GrammarRules(), inclusive=True)
    assert end_ms == 0
    assert len(whole) == len(tokens_to_notes(np.concatenate([seed, made])))


def test_what_an_instrument_that_may_not_play_left_sounding_fades_at_the_cut():
    second = TIME_SHIFT.first + 99
    seed = np.array([PROGRAM.first + 30, 280, 60, PROGRAM.first + 40, 62], np.uint16)
    made = np.array([second, 64, second, second], np.uint16)
    rules = GrammarRules(programs=(40,))
    notes, _ = to_notes(seed, made, CodecSettings(), rules, inclusive=False)
    assert notes.program.tolist() == [30, 40, 40]
    assert notes.end_ms.tolist() == [500, 1500, 1500]
    whole, _ = to_notes(seed, made, CodecSettings(), rules, inclusive=True)
    assert whole.end_ms.tolist() == [1500, 1500, 1500]
