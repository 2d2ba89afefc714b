"""Whatever a model says, kept notes are in the piece, and it is music an encoder writes."""

import dataclasses

import numpy as np
import pytest

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, STEP_MS, TIME_SHIFT, VOCAB_SIZE
from midinet.generation.kept_events import to_kept_events
from midinet.generation.sampling import stream, trim_at_pad
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.midi.notes import Notes
from tests.generation.test_grammar import KINDS, longest_silence_ms, make_model, set_weights

NOTHING = np.empty(0, np.uint16)
FREE_PROGRAMS = (0, 40, 127)
ROW = ("start_ms", "end_ms", "program", "pitch", "velocity", "is_drum")


@pytest.fixture(scope="module")
def model():
    return make_model(CodecSettings())


def random_part(seed, programs=(9, 73), drums=True, seconds=0.4, num_notes=24):
    """Notes of some instruments as tokens can express them; the first may begin late."""
    random = np.random.default_rng(seed)
    start = STEP_MS * random.integers(0, int(seconds * 100), num_notes).astype(float)
    is_drum = (random.random(num_notes) < 0.4) & drums
    notes = Notes(
        start,
        start + STEP_MS * random.integers(1, 20, num_notes),
        np.where(is_drum, 0, random.choice(programs, num_notes)).astype(np.uint8),
        random.integers(58, 64, num_notes).astype(np.uint8),  # few, so that notes follow closely
        random.integers(1, 128, num_notes).astype(np.uint8),
        is_drum,
    )
    notes = tokens_to_notes(encode(notes[np.argsort(start, kind="stable")]))
    late_ms = STEP_MS * float(random.integers(0, 20)) * (seed % 2)
    return moved(notes, late_ms)


def moved(notes, ms):
    return dataclasses.replace(notes, start_ms=notes.start_ms + ms, end_ms=notes.end_ms + ms)


def accompany(model, part, rules, length=8000, pieces=1, drum_program=DRUM_PROGRAM):
    settings = SamplingSettings(VOCAB_SIZE, seed=5, rules=rules)
    kept = to_kept_events(part, drum_program)
    made = stream(model, [NOTHING] * pieces, length, settings=settings, kept=kept)
    return [trim_at_pad(tokens) for tokens in np.concatenate(list(made), axis=1)]


def rows(notes, mask):
    columns = (getattr(notes, name)[mask].tolist() for name in ROW)
    return sorted(zip(*columns, strict=True))


def of_part(notes, part):
    programs = np.unique(part.program[~part.is_drum])
    return np.where(notes.is_drum, part.is_drum.any(), np.isin(notes.program, programs))


def check(tokens, part, rules):
    notes = tokens_to_notes(tokens)
    np.testing.assert_array_equal(encode(notes), tokens)
    is_kept = of_part(notes, part)
    # Percussion rings on for a moment, if no next stroke cuts it short.
    assert rows(notes, is_kept) == rows(part, np.ones(len(part), bool))
    composed = notes[~is_kept]
    end_ms = part.end_ms[~part.is_drum].max(initial=0)
    end_ms = max(end_ms, part.start_ms.max())
    assert composed.end_ms[~composed.is_drum].max(initial=0) <= end_ms
    lasts = (composed.end_ms - composed.start_ms)[~composed.is_drum]
    assert lasts.max(initial=0) <= rules.max_note_ms
    assert longest_silence_ms(notes) <= rules.max_silence_ms
    return composed


FEW = GrammarRules(FREE_PROGRAMS, max_silence_ms=300, max_note_ms=500)
DUO = GrammarRules(None, max_silence_ms=300, max_note_ms=500, max_programs=2)
TIGHT = GrammarRules(FREE_PROGRAMS, max_silence_ms=30, max_note_ms=40, may_end=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rules", [FEW, DUO, TIGHT], ids=["few", "duo", "tight"])
def test_whatever_the_weights_every_kept_note_is_there_and_no_other(model, kind, rules):
    set_weights(model, kind)
    part = random_part(sum(map(ord, kind)))
    for tokens in accompany(model, part, rules):
        assert len(tokens) < 8000, "a piece ends with the last kept event"
        composed = check(tokens, part, rules)
        assert len(composed) or kind != "only notes"
        players = len(np.unique(composed.program[~composed.is_drum])) + composed.is_drum.any()
        assert players <= (rules.max_programs or len(FREE_PROGRAMS))


@pytest.mark.parametrize("seed", range(12))
def test_any_part_can_be_kept(model, seed):
    set_weights(model, ("random 3", "constant", "loves programs")[seed % 3])
    options = [{}, {"drums": False}, {"programs": (0,)}, {"num_notes": 1}][seed % 4]
    part = random_part(seed, **options)
    kept_programs = set(part.program.tolist())
    rules = GrammarRules(tuple({*FREE_PROGRAMS, *kept_programs, DRUM_PROGRAM}), 400, 700)
    for tokens in accompany(model, part, rules):
        check(tokens, part, rules)


def test_a_model_that_lets_time_pass_lets_kept_events_pass_too(model):
    """Else it would compose the more notes, the closer kept events are to each other."""
    set_weights(model, "constant")
    bias = np.zeros(VOCAB_SIZE, np.float32)
    bias[TIME_SHIFT.first + 49] = 12
    model.weights_by_name()["logits/bias"].assign(bias)
    count = 60
    start = 20.0 * np.arange(count)
    part = Notes(
        start,
        start + STEP_MS,
        np.resize([9, 73], count).astype(np.uint8),
        np.full(count, 60, np.uint8),
        np.full(count, 80, np.uint8),
        np.zeros(count, bool),
    )
    (tokens,) = accompany(model, part, GrammarRules(max_silence_ms=500))
    assert len(check(tokens, part, GrammarRules())) < 10


def test_percussion_can_be_composed_for_melodies_and_melodies_for_percussion(model):
    set_weights(model, "random 3")
    melody, beat = random_part(2, drums=False), random_part(3)
    beat = beat[beat.is_drum]
    (tokens,) = accompany(model, melody, GrammarRules((DRUM_PROGRAM,)))
    assert check(tokens, melody, GrammarRules()).is_drum.all()
    (tokens,) = accompany(model, beat, GrammarRules((40,)))
    composed = check(tokens, beat, GrammarRules())
    assert set(composed.program.tolist()) == {40}


def test_the_order_of_another_encoder_gives_way_to_kept_events():
    model = make_model(CodecSettings(drum_program=None))
    set_weights(model, "random 3")
    part = random_part(4, drums=False)
    for tokens in accompany(model, part, FEW, drum_program=None):
        notes = tokens_to_notes(tokens, None)
        np.testing.assert_array_equal(encode(notes, None), tokens)
        assert rows(notes, of_part(notes, part)) == rows(part, np.ones(len(part), bool))
