"""What was played four or eight bars ago returns, and only where a model knows the meter."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, NOTE_ON, PROGRAM, TIME_SHIFT, VOCAB_SIZE
from midinet.generation.kept_events import to_kept_events
from midinet.generation.repetition import GAIN_BY_BARS, repetition_weights, without_pitches
from midinet.generation.sampling import compose, stream
from midinet.generation.settings import MAX_REPETITION, GrammarRules, SamplingSettings
from midinet.midi.notes import Notes
from midinet.model.meter import LAGS_TICKS, NUM_SCORES, TICKS_PER_BAR
from midinet.model.music_transformer import MusicTransformer, build_model
from midinet.model.parameters import Parameters
from tests.generation.test_grammar import check_encodes_back

BPM = 240  # a bar lasts one second
PITCHES = slice(50, 80)


def model_that_remembers(lag_ticks: int, liking: float, hears_state: bool = True):
    """A model that likes the pitches of one lag ago, and else plays a random note per half bar."""
    parameters = Parameters(
        embedding_size=8, sequence_length=64, num_blocks=1, num_heads=1, feed_forward_dim=8
    )
    model = build_model(parameters, CodecSettings(), hears_state=hears_state)
    model.logits.kernel.assign(np.zeros(model.logits.kernel.shape))
    bias = np.full(VOCAB_SIZE, -30, np.float32)
    bias[PITCHES] = 0
    bias[TIME_SHIFT.first + 49] = bias[PROGRAM.first] = 3
    bias[NOTE_ON.end + PITCHES.start : NOTE_ON.end + PITCHES.stop] = 5
    model.logits.bias.assign(bias)
    if hears_state:
        scores = np.zeros(NUM_SCORES, np.float32)
        first_pitch_lag = 2 * TICKS_PER_BAR + len(LAGS_TICKS)
        scores[first_pitch_lag + LAGS_TICKS.index(lag_ticks)] = liking
        model.meter_head.meter_bias.assign(scores)
    return model


def compose_tokens(model: MusicTransformer, repetition: float, length: int = 1500) -> np.ndarray:
    settings = SamplingSettings(
        VOCAB_SIZE, repetition=repetition, rules=GrammarRules(may_end=False), bpm=BPM
    )
    return compose(model, [np.zeros(0, np.uint16)], length, settings=settings)[0]


def share_returning(tokens: np.ndarray, bars: int) -> float:
    """The share of notes whose pitch also began so many bars before."""
    steps = np.cumsum(np.where(TIME_SHIFT.holds(tokens), tokens - TIME_SHIFT.first + 1.0, 0))
    is_on = NOTE_ON.holds(tokens)
    notes = {
        (int(time), int(pitch)) for time, pitch in zip(steps[is_on], tokens[is_on], strict=True)
    }
    return float(np.mean([(time - 100 * bars, pitch) in notes for time, pitch in notes]))


def test_more_repetition_brings_back_what_was_played_four_bars_ago():
    model = model_that_remembers(4 * TICKS_PER_BAR, liking=0.8)
    as_the_model_says, usual, strong = (
        share_returning(compose_tokens(model, repetition), 4) for repetition in (0.0, 1.0, 2.0)
    )
    assert as_the_model_says < 0.5
    assert usual > as_the_model_says + 0.1
    assert strong > usual + 0.05


def test_more_repetition_makes_a_bar_that_is_repeated_at_once_rarer():
    model = model_that_remembers(TICKS_PER_BAR, liking=4.0)
    as_the_model_says, strong = (
        share_returning(compose_tokens(model, repetition), 1) for repetition in (0.0, 1.5)
    )
    assert as_the_model_says > strong + 0.1


def test_a_model_without_the_meter_composes_the_same_with_any_repetition():
    model = model_that_remembers(0, 0, hears_state=False)
    one, other = (compose_tokens(model, repetition, 300) for repetition in (0.0, 5.0))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_a_meter_whose_numbers_overflow_leads_to_music_all_the_same(value):
    model = model_that_remembers(4 * TICKS_PER_BAR, liking=value)
    tokens = compose_tokens(model, MAX_REPETITION, 300)
    assert len(tokens) == 300
    check_encodes_back(tokens)


def test_of_an_accompaniment_pitches_do_not_return():
    random = np.random.default_rng(0).normal(size=(2, VOCAB_SIZE)).astype(np.float32)
    rest = without_pitches(random).numpy()
    assert not rest[:, : NOTE_ON.end].any()
    np.testing.assert_array_equal(rest[:, NOTE_ON.end :], random[:, NOTE_ON.end :])


def test_an_accompaniment_that_likes_the_pitches_of_four_bars_ago_is_the_same_with_any_repetition():
    model = model_that_remembers(4 * TICKS_PER_BAR, liking=2.0)
    time_ms = 250.0 * np.arange(200)
    flute, high, loud = (np.full(len(time_ms), n, np.uint8) for n in (73, 100, 80))
    notes = Notes(time_ms, time_ms + 200, flute, high, loud, np.zeros(len(time_ms), bool))
    kept = to_kept_events(notes, DRUM_PROGRAM)

    def accompany(repetition: float) -> np.ndarray:
        settings = SamplingSettings(VOCAB_SIZE, repetition=repetition, bpm=BPM)
        parts = stream(model, [np.zeros(0, np.uint16)], 600, settings=settings, kept=kept)
        return np.concatenate(list(parts), axis=1)

    np.testing.assert_array_equal(accompany(0.0), accompany(2.0))


@pytest.mark.parametrize("lag", LAGS_TICKS)
def test_each_lag_has_its_gain_in_all_three_scores(lag):
    kernel, bias = np.ones((3, NUM_SCORES), np.float32), np.full(NUM_SCORES, 2, np.float32)
    new_kernel, new_bias = repetition_weights((kernel, bias))
    gain = GAIN_BY_BARS[lag / TICKS_PER_BAR]
    columns = 2 * TICKS_PER_BAR + LAGS_TICKS.index(lag) + len(LAGS_TICKS) * np.arange(3)
    np.testing.assert_allclose(new_kernel[:, columns], gain, rtol=1e-6)
    np.testing.assert_allclose(new_bias[columns], 2 * gain, rtol=1e-6)
