"""Whatever a model says, what comes out is music that an encoder could have written."""

import itertools

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.decoding import DRUM_STEPS, tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_OFF,
    NOTE_ON,
    PAD,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
    VOCAB_SIZE,
)
from midinet.data.habits import Habits
from midinet.generation import grammar
from midinet.generation.rule_tensors import to_tensors
from midinet.generation.sampling import compose
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.model.music_transformer import build_model
from midinet.model.parameters import Parameters

NOTHING = np.empty(0, np.uint16)
PIECES, LENGTH = 2, 300  # more than one call of the loop, and many windows
SECOND = 1000 // STEP_MS


def on(pitch):
    return NOTE_ON.first + pitch


def off(pitch):
    return NOTE_OFF.first + pitch


def loud(level=20):
    return VELOCITY.first + level


def wait(steps):
    return TIME_SHIFT.first + steps - 1


def play(program):
    return PROGRAM.first + program


DRUMS = play(DRUM_PROGRAM)


def allowed_after(tokens, rules=None, drum_program=DRUM_PROGRAM):
    """The set of tokens that may follow those composed so far."""
    limits = to_tensors(rules or GrammarRules(), drum_program)
    state = grammar.initial_state(1)
    for token in tokens:
        state = grammar.advance(state, tf.constant([token]), limits)
    return set(np.flatnonzero(grammar.allowed_tokens(state, limits)[0]).tolist())


@pytest.mark.parametrize(
    ("before", "allowed", "forbidden", "why"),
    [
        ([], [loud(), play(5), DRUMS], [on(60), wait(1), PAD], "a song begins with its first note"),
        ([], [], [off(60), loud(0), play(0)], "nothing to end, level 0, and program 0 is current"),
        ([loud(), on(60)], [wait(1), on(61)], [on(60), off(60)], "a note lasts a step at least"),
        ([loud(), on(60)], [], [on(59)], "NOTE_ONs of one time ascend"),
        ([loud(), on(60)], [], [PAD], "a song ends when no note sounds"),
        ([loud(), on(60), wait(1)], [off(60)], [on(60)], "a sounding note is ended first"),
        ([loud(), on(60), wait(1), off(60)], [on(60), PAD], [off(60)], "and may start again"),
        ([loud(), on(60), wait(9), on(62)], [], [off(60)], "NOTE_OFFs come before NOTE_ONs"),
        ([loud(), on(60), wait(9)], [], [wait(5), wait(100), PAD], "a rest ends a pause"),
        ([loud(), on(60), wait(100)], [wait(100), wait(5)], [PAD], "full shifts go on"),
        ([loud(), on(60), play(7), on(5)], [play(8)], [play(7), play(6), play(0)], "ascending"),
        ([loud(20), on(60)], [loud(21)], [loud(20)], "a velocity that changes nothing"),
        ([loud(20), on(127)], [wait(1)], [loud(21)], "no NOTE_ON can follow at this time"),
        ([DRUMS, loud(), on(36), wait(1)], [on(36)], [off(36)], "percussion has no NOTE_OFF"),
        ([DRUMS, loud(), on(36)], [PAD], [on(36)], "no drum is hit twice at once"),
        ([loud(), on(60), wait(5), play(3), on(60)], [wait(1)], [play(0)], "back only later"),
    ],
)
def test_what_an_encoder_could_not_have_written_is_forbidden(before, allowed, forbidden, why):
    possible = allowed_after(before)
    assert not set(allowed) - possible, why
    assert not set(forbidden) & possible, why


def test_striking_a_note_that_sounds_counts_as_ending_it():
    limits = to_tensors(GrammarRules(), DRUM_PROGRAM)
    tokens = np.array([loud(), on(60), on(64), wait(5)])
    state = grammar.state_after_prompts([tokens], limits)
    logits = np.zeros((1, VOCAB_SIZE), np.float32)
    logits[0, on(60)], logits[0, off(60)] = 2.0, 1.0
    masked = grammar.mask_logits(tf.constant(logits), state, limits).numpy()[0]

    allowed = grammar.allowed_tokens(state, limits).numpy()[0]
    assert (np.isneginf(masked) == ~allowed).all()
    assert masked[off(60)] == pytest.approx(np.logaddexp(2.0, 1.0))
    assert masked[off(64)] == pytest.approx(np.log(2)), "of two zeros"
    others = allowed.copy()
    others[[off(60), off(64)]] = False
    assert (masked[others] == logits[0, others]).all()


def test_what_is_composed_ends_a_note_that_the_model_would_strike_again(model):
    set_weights(model, "constant")
    bias = np.zeros(VOCAB_SIZE, np.float32)
    bias[on(60)], bias[loud(20)], bias[wait(50)] = 10, 8, 5
    model.weights_by_name()["logits/bias"].assign(bias)
    (made,) = compose(model, [NOTHING], 6, settings=SamplingSettings(1))
    assert made.tolist() == [loud(20), on(60), wait(50), off(60), on(60), wait(50)]


def test_a_program_is_followed_by_an_event_and_a_velocity_by_a_note():
    assert allowed_after([play(3)]) == set(range(VELOCITY.first + 1, VELOCITY.end))
    assert allowed_after([play(3), loud()]) == set(range(NOTE_ON.first, NOTE_ON.end))
    assert allowed_after([loud(20), on(60), play(3)]) == {
        *range(NOTE_ON.first, NOTE_ON.end),
        *range(VELOCITY.first + 1, VELOCITY.end),
    } - {loud(20)}


def longest_pause(tokens, rules):
    """The longest single TIME_SHIFT that may follow, in steps."""
    return max(
        [t - TIME_SHIFT.first + 1 for t in allowed_after(tokens, rules) if is_shift(t)] + [0]
    )


def is_shift(token):
    return TIME_SHIFT.first <= token < TIME_SHIFT.end


def test_silence_ends_with_a_note_and_not_with_a_longer_pause():
    rules = GrammarRules(max_silence_ms=2000)
    quiet = [loud(), on(60), wait(50), off(60)]
    for more, expected in (([], 100), ([wait(100)], 100), ([wait(100)] * 2, 0)):
        assert longest_pause(quiet + more, rules) == expected
    # Percussion rings for a moment, and counts as sound.
    hit = [DRUMS, loud(), on(36)]
    assert longest_pause([*hit, wait(100), wait(100)], rules) == DRUM_STEPS


def test_a_note_that_is_due_ends_before_anything_behind_it_in_the_order_happens():
    rules = GrammarRules(max_note_ms=1000)
    held = [loud(), on(60), play(9), on(40), play(20), on(50), wait(50), on(70), wait(50)]
    # Program 20 is current and comes first, then 0 and 9; nothing passes them.
    assert longest_pause(held[:-1], rules) == 50
    assert allowed_after(held, rules) == {off(50)}
    held.append(off(50))
    assert {off(70), on(71), play(0)} <= allowed_after(held, rules)
    held += [play(0), off(60)]
    assert {on(60), play(9)} <= allowed_after(held, rules)
    assert not {wait(1), play(10), PAD} & allowed_after(held, rules)


def test_a_piece_does_not_end_too_early():
    rules = GrammarRules(earliest_end_ms=1000)
    short = [loud(), on(60), wait(99), off(60)]
    assert PAD not in allowed_after(short, rules)
    assert PAD in allowed_after([loud(), on(60), wait(100), off(60)], rules)


TWO_VOICES = Habits((1000,) * 128, (2,) * 128)


def test_an_instrument_without_a_voice_left_must_end_a_note_before_it_begins_one():
    rules = GrammarRules(habits=TWO_VOICES)
    two_voices = [play(9), loud(), on(60), wait(1), on(64)]
    assert not set(range(NOTE_ON.end)) & allowed_after(two_voices, rules)
    assert {loud(20), loud(21)}.isdisjoint(allowed_after([*two_voices, wait(1)], rules))
    ended = [*two_voices, wait(1), off(60)]
    assert {on(40), on(90)} <= allowed_after(ended, rules)
    assert allowed_after([*ended, on(60)], rules).isdisjoint(range(NOTE_ON.end))


def test_a_note_without_a_voice_ends_the_oldest_note_instead():
    limits = to_tensors(GrammarRules(habits=TWO_VOICES), DRUM_PROGRAM)
    state = grammar.initial_state(1)
    for token in [play(9), loud(), on(64), wait(1), on(60), wait(1)]:
        state = grammar.advance(state, tf.constant([token]), limits)
    logits = np.full((1, VOCAB_SIZE), -20.0, np.float32)
    logits[0, [on(70), on(72), off(60)]] = np.log([0.6, 0.3, 0.1])
    masked = grammar.mask_logits(tf.constant(logits), state, limits).numpy()[0]
    assert np.exp(masked[[off(64), off(60)]]) == pytest.approx([0.9, 0.1], abs=1e-4)
    assert np.isneginf(masked[: NOTE_ON.end]).all()


def test_a_seed_that_broke_the_rules_gets_a_step_to_keep_them():
    limits = to_tensors(GrammarRules(max_note_ms=1000), DRUM_PROGRAM)
    # Pitch 60 is far over its time, but NOTE_OFFs of this time have gone by.
    seed = np.array([loud(), on(60), *[wait(100)] * 5, on(61)], np.uint16)
    state = grammar.state_after_prompts([seed, seed], limits)
    possible = np.flatnonzero(grammar.allowed_tokens(state, limits)[1])
    assert [t for t in possible if is_shift(t)] == [wait(1)]
    assert on(62) in possible


def test_a_seed_cut_where_nothing_else_could_follow_goes_on_a_step_later():
    limits = to_tensors(GrammarRules((0,), may_end=False), DRUM_PROGRAM)
    seed = [loud(), on(60), wait(1), off(60), *[wait(100)] * 5, play(127)]
    state = grammar.state_after_prompts([np.array(seed, np.uint16)], limits)
    assert np.flatnonzero(grammar.allowed_tokens(state, limits)[0]).tolist() == [wait(1)]


def test_only_the_chosen_instruments_play_and_the_seeds_others_may_end_their_notes():
    rules = GrammarRules(programs=(4, DRUM_PROGRAM))
    possible = allowed_after([], rules)
    assert possible == {play(4), DRUMS}
    held = [loud(), on(60), play(9), on(40), wait(10)]
    possible = allowed_after(held, rules)
    assert possible == {off(40), play(0), play(4), DRUMS}


def test_once_enough_instruments_have_played_no_other_joins_them():
    rules = GrammarRules(max_programs=2)
    one = [play(9), loud(), on(60), wait(10), off(60)]
    assert {play(40), DRUMS} <= allowed_after(one, rules)
    two = [*one, play(40), on(50), wait(10), play(9), on(60), wait(10)]
    assert PROGRAM.first + 40 in allowed_after(two, rules)
    assert {token for token in allowed_after(two, rules) if PROGRAM.holds(token)} == {play(40)}


def test_a_seed_of_more_instruments_than_may_play_keeps_them():
    limits = to_tensors(GrammarRules(max_programs=1), DRUM_PROGRAM)
    seed = np.array([loud(), on(60), play(9), on(40), wait(1)], np.uint16)
    state = grammar.state_after_prompts([seed], limits)
    possible = np.flatnonzero(grammar.allowed_tokens(state, limits)[0])
    assert [token for token in possible if PROGRAM.holds(token)] == [play(0)]
    assert on(41) in possible


def test_without_a_drum_program_events_of_one_time_come_in_any_order():
    before = [play(9), loud(), on(60), on(40)]
    possible = allowed_after(before, drum_program=None)
    assert {on(20), play(3), wait(7)} <= possible
    assert not {on(60), off(60), loud(), play(9)} & possible


def make_model(codec):
    parameters = Parameters(
        embedding_size=16, sequence_length=64, num_blocks=1, num_heads=2, feed_forward_dim=16
    )
    return build_model(parameters, codec)


@pytest.fixture(scope="module")
def model():
    return make_model(CodecSettings())


def set_weights(model, kind):
    """Random, constant or adversarial weights."""
    random = np.random.default_rng(7)
    bias = np.zeros(VOCAB_SIZE)
    scale = 0.0
    if kind.startswith("random"):
        scale = float(kind.split()[1])
    elif kind == "only time":
        bias[TIME_SHIFT.first : TIME_SHIFT.end] = 1e6
    elif kind == "only notes":
        bias[NOTE_ON.first : NOTE_ON.end] = 1e6
    elif kind == "never ends a note":
        bias[NOTE_OFF.first : NOTE_OFF.end] = -1e6
        bias[NOTE_ON.first] = 5
    elif kind == "loves programs":
        bias[PROGRAM.first : PROGRAM.end] = 1e6
    elif kind == "loves long notes":
        bias[[on(60), off(60)]] = [1e6, -1e6]
        bias[wait(1) :] = 1e3
    elif kind == "not a number":
        bias[:] = np.nan
    elif kind == "infinite":
        bias[::2] = np.inf
        bias[1::2] = -np.inf
    for name, variable in model.weights_by_name().items():
        if name == "logits/bias":
            variable.assign(bias)
        else:
            variable.assign(scale * random.normal(size=variable.shape))


KINDS = (
    "constant",
    "random 0.3",
    "random 3",
    "random 100",
    "only time",
    "only notes",
    "never ends a note",
    "loves programs",
    "loves long notes",
    "not a number",
    "infinite",
)


def check_encodes_back(tokens):
    """Asserts that tokens cut anywhere are what an encoder writes of their music.

    Up to the last event: what follows it says nothing yet. Notes that still sound there go on for
    a step, as a note that ends where the cut is would have been ended in its place before.
    """
    tokens = tokens[: np.flatnonzero(tokens < NOTE_OFF.end)[-1] + 1]
    notes = tokens_to_notes(np.append(tokens, wait(1)))
    np.testing.assert_array_equal(encode(notes)[: len(tokens)], tokens)
    return notes


def check_habits(notes, habits):
    """Asserts that no note is too long and that no instrument has too many at once."""
    lasts_ms = notes.end_ms - notes.start_ms
    assert (lasts_ms <= np.array(habits.longest_note_ms)[notes.program] + STEP_MS).all()
    for program in np.unique(notes.program):
        own = notes[notes.program == program]
        begun = np.searchsorted(np.sort(own.start_ms), own.start_ms, side="right")
        ended = np.searchsorted(np.sort(own.end_ms), own.start_ms, side="right")
        assert (begun - ended).max() <= habits.most_voices[program]


def longest_silence_ms(notes):
    """The longest time within the notes in which nothing sounds."""
    start, end = notes.start_ms, np.maximum.accumulate(notes.end_ms)
    return float(np.max(start[1:] - end[:-1], initial=0))


FREE = GrammarRules(may_end=False)
TIGHT = GrammarRules((0, 40, DRUM_PROGRAM), max_silence_ms=30, max_note_ms=40, may_end=False)
DUO = GrammarRules(max_silence_ms=150, max_note_ms=100, may_end=False, max_programs=2)
# Of each kind of program some may sound for a step alone, and with one voice.
HABITS = Habits(tuple(10 + 40 * (p % 3) for p in range(128)), tuple(1 + p % 2 for p in range(128)))
USUAL = GrammarRules(max_silence_ms=150, may_end=False, habits=HABITS)
DRUMS_ONLY = GrammarRules((DRUM_PROGRAM,), max_silence_ms=150, may_end=False)
LAST_PROGRAM = GrammarRules((127,), max_silence_ms=10, max_note_ms=10, may_end=False)


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        *((kind, rules) for kind in KINDS for rules in (FREE, TIGHT)),
        *((kind, USUAL) for kind in ("constant", "random 3", "only notes", "never ends a note")),
        *((kind, DUO) for kind in ("constant", "random 3", "random 100", "loves programs")),
        *((kind, DRUMS_ONLY) for kind in ("constant", "random 100", "only time")),
        *((kind, LAST_PROGRAM) for kind in ("constant", "only notes", "not a number")),
    ],
)
def test_whatever_the_weights_the_music_encodes_back_to_its_tokens(model, kind, rules):
    set_weights(model, kind)
    # 517: every token that the grammar allows may come.
    pieces = compose(
        model,
        [NOTHING] * PIECES,
        LENGTH,
        settings=SamplingSettings(VOCAB_SIZE, 1.0, 1.0, rules=rules),
    )
    for piece in pieces:
        assert len(piece) == LENGTH
        notes = check_encodes_back(piece)

        lasts = (notes.end_ms - notes.start_ms)[~notes.is_drum]
        assert lasts.max(initial=0) <= rules.max_note_ms + STEP_MS  # the step of the cut
        assert longest_silence_ms(notes) <= rules.max_silence_ms
        if rules.habits is not None:
            check_habits(notes[~notes.is_drum], rules.habits)
        if rules.max_programs is not None:
            melodic = np.unique(notes.program[~notes.is_drum])
            assert len(melodic) + notes.is_drum.any() <= rules.max_programs
        if rules.programs is not None:
            assert set(notes.program[~notes.is_drum].tolist()) <= set(rules.programs)
            assert DRUM_PROGRAM in rules.programs or not notes.is_drum.any()


@pytest.mark.parametrize("kind", ["constant", "random 3", "loves long notes"])
def test_a_seed_and_its_continuation_encode_back_as_one(model, kind):
    seed = np.array(
        [play(30), loud(), on(50), on(90), *[wait(100)] * 30, off(50), DRUMS, on(35)], np.uint16
    )
    set_weights(model, kind)
    rules = GrammarRules(max_note_ms=3000, may_end=False)
    settings = SamplingSettings(VOCAB_SIZE, 1.0, 1.0, seed=9, rules=rules)
    for piece in compose(model, [seed] * PIECES, LENGTH, settings=settings):
        notes = check_encodes_back(np.concatenate([seed, piece]))
        # The seed held pitch 90 for 30 s; it ends a step behind the seed.
        long = notes.end_ms - notes.start_ms > rules.max_note_ms + STEP_MS
        assert notes.pitch[long].tolist() == [50, 90]
        assert notes.end_ms[long].tolist() == [30_000, 30_010]


@pytest.mark.parametrize("kind", ["constant", "random 3", "only notes"])
@pytest.mark.parametrize("drum_program", [DRUM_PROGRAM, None])
def test_a_seed_that_broke_habits_can_be_continued(kind, drum_program):
    held = [loud(), *map(on, range(40, 60)), play(9), on(40), on(60), *[wait(100)] * 3, on(61)]
    model = make_model(CodecSettings(drum_program=drum_program))
    set_weights(model, kind)
    settings = SamplingSettings(VOCAB_SIZE, 1.0, 1.0, seed=9, rules=USUAL)
    for piece in compose(model, [np.array(held, np.uint16)] * PIECES, LENGTH, settings=settings):
        assert len(piece) == LENGTH, "no dead end"
        assert (piece < NOTE_ON.end).sum() > 10 or kind == "random 3"


@pytest.mark.parametrize("kind", ["constant", "random 3", "only time"])
def test_other_encoders_orders_keep_the_bounds_too(kind):
    model = make_model(CodecSettings(drum_program=None))
    set_weights(model, kind)
    rules = GrammarRules(max_silence_ms=500, max_note_ms=700, may_end=False)
    for piece in compose(
        model,
        [NOTHING] * PIECES,
        LENGTH,
        settings=SamplingSettings(VOCAB_SIZE, 1.0, 1.0, rules=rules),
    ):
        notes = tokens_to_notes(piece, None)
        assert len(notes) > 10
        assert longest_silence_ms(notes) <= rules.max_silence_ms
        assert (notes.end_ms - notes.start_ms).max() <= rules.max_note_ms
        for token, then in itertools.pairwise(piece):
            assert not (PROGRAM.holds(token) and (PROGRAM.holds(then) or TIME_SHIFT.holds(then)))
            assert not (VELOCITY.holds(token) and not NOTE_ON.holds(then))


def test_a_random_piece_ends_itself_and_then_encodes_back_whole(model):
    set_weights(model, "constant")
    bias = np.zeros(VOCAB_SIZE)
    bias[[PAD, wait(1), *range(NOTE_OFF.first, NOTE_OFF.end)]] = 8
    model.weights_by_name()["logits/bias"].assign(bias)
    settings = SamplingSettings(VOCAB_SIZE, 1.0, 1.0, rules=GrammarRules(max_note_ms=20))
    for piece in compose(model, [NOTHING] * PIECES, LENGTH, settings=settings):
        assert 0 < len(piece) < LENGTH
        np.testing.assert_array_equal(encode(tokens_to_notes(piece)), piece)
