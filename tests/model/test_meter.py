"""The meter: lines of the beat, and what was played bars ago."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_ON,
    PAD,
    PROGRAM,
    TIME_SHIFT,
    VELOCITY,
    VOCAB_SIZE,
)
from midinet.model import meter
from midinet.model.meter import LAGS_TICKS, NUM_SCORES, TICKS_PER_BAR, Onsets
from midinet.model.music_state import NO_TICK, Features, Pulse, window_features

D = 6
FLUTE, BASS = 73, 33


def features_at(beats: np.ndarray, beats_per_step: float, tokens: np.ndarray) -> Features:
    """The state after tokens `(B, T)`, at given beats."""
    pulse = Pulse.of(beats, np.full(beats.shape, beats_per_step))
    return window_features(tokens, DRUM_PROGRAM, pulse=pulse)


def distances(beat: float, bpm: float) -> dict[int, int]:
    """Which TIME_SHIFTs, in steps, lead to which lines after a beat."""
    state = features_at(np.array([[beat]]), bpm / 6000, np.array([[PAD]]))
    row = meter.distances_of_lines(state).numpy()[0, 0]
    assert row.shape == (TIME_SHIFT.size,)
    return {step: int(row[step - 1]) for step in range(1, 101) if row[step - 1]}


def test_a_line_is_reached_by_the_nearest_step():
    # At 125 beats per minute a tick takes exactly 4 steps.
    assert distances(3.0, 125) == {4 * tick: tick for tick in range(1, 26)}
    # One step after the beat.
    assert distances(3 + 1 / 48, 125) == {4 * tick - 1: tick for tick in range(1, 26)}
    # At 100 beats per minute it takes 5, so the first line lies 2.75 steps ahead.
    assert distances(0.45 / 12, 100) == {3 + 5 * tick: tick + 1 for tick in range(20)}


def test_lines_farther_than_a_bar_have_no_number():
    assert max(distances(0.0, 300).values()) == TICKS_PER_BAR


def test_without_a_metronome_there_are_no_lines():
    assert distances(np.nan, 120) == {}


def random_window(seed: int, T: int = 90) -> tuple[np.ndarray, Features]:
    """Tokens with few pitches and programs, and the state after each, to a steady beat."""
    random = np.random.default_rng(seed)
    choices = [60, 64, 67, TIME_SHIFT.first + 9, TIME_SHIFT.first + 39, VELOCITY.first + 9]
    choices += [PROGRAM.first + p for p in (FLUTE, BASS, DRUM_PROGRAM)]
    tokens = random.choice(choices, (2, T))
    state = window_features(tokens, DRUM_PROGRAM)
    pulse = Pulse.of(state.now_steps / 40, np.full(tokens.shape, 1 / 40))  # 150 bpm
    return tokens, state._replace(**pulse._asdict())


def by_a_plain_loop(
    x: np.ndarray, state: Features, onsets: Onsets, kernel: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The definition, for one window: `(T, V)`."""
    logits = np.zeros((len(x), VOCAB_SIZE))
    shifts = meter.distances_of_lines(state).numpy()[0]
    played = set(zip(*(field[0].tolist() for field in onsets), strict=True))
    for t, scores in enumerate(x @ kernel + bias):
        position, distance, lines, pitches, programs = np.split(
            scores, np.cumsum([TICKS_PER_BAR] * 2 + [len(LAGS_TICKS)] * 2)
        )
        now, program = int(state.tick[0, t]), int(state.program[0, t])
        for lag, *score in zip(LAGS_TICKS, lines, pitches, programs, strict=True):
            began = {(p, key) for tick, p, key in played if tick == now - lag}
            for key in {key for p, key in began if p == program}:
                logits[t, key] += score[1]
            for other in {p for p, _ in began}:
                logits[t, PROGRAM.first + other] += score[2]
            for step, ticks in enumerate(shifts[t]):
                before = now + ticks - lag
                if ticks and before < now and any(tick == before for tick, *_ in played):
                    logits[t, TIME_SHIFT.first + step] += score[0]
        for step, ticks in enumerate(shifts[t]):
            if ticks:
                score = position[(now + ticks) % TICKS_PER_BAR] + distance[ticks - 1]
                logits[t, TIME_SHIFT.first + step] += score
    return logits


@pytest.mark.parametrize("seed", range(3))
def test_all_ways_to_compute_it_agree(seed):
    tokens, state = random_window(seed)
    B, T = tokens.shape
    is_new = np.arange(T) >= np.full((B, 1), 7)
    past_beats = np.array([[-4.0, -2.0, np.nan], [-1.0, -0.5, -0.25]])
    past_slots = np.array([[FLUTE, BASS, 0], [DRUM_PROGRAM, FLUTE, FLUTE]]) * 128 + 64
    onsets = meter.window_onsets(tokens, state, is_new, past_beats, past_slots)
    assert onsets.tick.shape == (B, 3 + T)
    random = np.random.default_rng(seed)
    x = random.normal(size=(B, T, D)).astype(np.float32)
    kernel = random.normal(size=(D, NUM_SCORES)).astype(np.float32)
    bias = random.normal(size=NUM_SCORES).astype(np.float32)

    def logits(x: np.ndarray, state: Features, onsets: Onsets) -> tf.Tensor:
        return meter.meter_logits(x, state, meter.lookup_in(onsets), kernel, bias)

    whole = logits(x, state, onsets).numpy()
    by_xla = tf.function(logits, jit_compile=True)(x, state, onsets)
    np.testing.assert_allclose(by_xla, whole, atol=1e-4)
    assert np.count_nonzero(whole[..., :128]) > 20, "nothing was found again"
    for row in range(B):
        own = Features(*(field[row : row + 1] for field in state))
        played = Onsets(*(field[row : row + 1] for field in onsets))
        expected = by_a_plain_loop(x[row], own, played, kernel, bias)
        np.testing.assert_allclose(whole[row], expected, atol=1e-4)
    # One token at a time, when what follows is not known yet.
    for t in range(0, T, 9):
        now = Features(*(field[:, t : t + 1] for field in state))
        played = Onsets(*(field[:, : 3 + t] for field in onsets))
        one = logits(x[:, t : t + 1], now, played)
        np.testing.assert_allclose(one[:, 0], whole[:, t], atol=1e-4)


def test_restated_notes_and_other_tokens_are_no_onsets():
    tokens = np.array([[60, 61, VELOCITY.first, TIME_SHIFT.first, 62]])
    state = features_at(np.array([[1.0, 1.0, 1.0, 1.02, 1.02]]), 0.02, tokens)
    is_new = np.array([[False, True, True, True, True]])
    nothing = np.zeros((1, 0))
    onsets = meter.window_onsets(tokens, state, is_new, nothing, nothing.astype(int))
    assert onsets.tick[0].tolist() == [NO_TICK, 12, NO_TICK, NO_TICK, 12]
    assert onsets.pitch[0, [1, 4]].tolist() == [61, 62]
    of_tokens = meter.onsets_of(tf.constant(tokens), state)
    assert of_tokens.tick.numpy()[0].tolist() == [12, 12, NO_TICK, NO_TICK, 12]
    assert NOTE_ON.first == 0, "tokens of NOTE_ON are their pitches"


def test_a_new_head_adds_nothing():
    tokens, state = random_window(0)
    head = meter.MeterHead(D)
    added = head(np.ones((*tokens.shape, D), np.float32), state, meter.onsets_of(tokens, state))
    assert added.shape == (*tokens.shape, VOCAB_SIZE)
    assert not np.any(added)
