"""The ring of onsets, against lists of the same onsets."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.vocabulary import NOTE_ON
from midinet.generation.onset_ring import lookup_in_ring, remember_onset, ring_of
from midinet.model.meter import LAGS_TICKS, Lookup, Onsets, lookup_in, onsets_of
from midinet.model.music_state import NO_TICK, Features

PITCHES, PROGRAMS = (0, 31, 32, 60, 127), (0, 33, 127)
remember = tf.function(remember_onset, jit_compile=True, autograph=False)


def random_events(seed: int, B: int = 2, T: int = 400) -> tuple[np.ndarray, Features]:
    """Tokens and the state after each: time passes at one of three, over some 50 bars."""
    random = np.random.default_rng(seed)
    tokens = random.choice([*PITCHES, *(pitch + 128 for pitch in PITCHES)], (B, T))
    steps = random.choice([0, 0, 1, 5, 30], (B, T))
    steps[:, T // 2] = 600  # longer than the ring
    tick = np.cumsum(steps, axis=1).astype(np.int32)
    nothing = np.zeros((B, T), np.int32)
    state = Features(nothing, nothing, nothing, nothing, nothing, nothing, tick, nothing)
    return tokens.astype(np.int32), state._replace(
        program=random.choice(np.int32(PROGRAMS), (B, T))
    )


def found(lookup: Lookup, tick: np.ndarray, program: np.ndarray) -> list[np.ndarray]:
    """What a lookup tells of times `(B, L)`, and of the lines after them."""
    asked = tf.constant(tick[:, None])
    answers = [*lookup.began(asked, tf.constant(program[:, None])), lookup.had_onset(asked - 25)]
    return [np.asarray(answer) for answer in answers]


@pytest.mark.parametrize("first", [0, 150])
def test_a_ring_finds_what_a_list_finds_in_the_last_eight_bars(first):
    tokens, state = random_events(first)
    whole = Onsets(*(np.asarray(field) for field in onsets_of(tokens, state)))
    # What was played at first comes as a list, in which some entries are no notes.
    ring = ring_of(Onsets(*(np.insert(field[:, :first], 0, NO_TICK, 1) for field in whole)))
    num_found = 0
    for t in range(first, tokens.shape[1]):
        now = Features(*(field[:, t] for field in state))
        ring = remember(ring, tf.constant(tokens[:, t]), now)
        if t % 20:
            continue
        played = lookup_in(Onsets(*(tf.constant(field[:, : t + 1]) for field in whole)))
        asked = now.tick[:, None] - np.int32(LAGS_TICKS), now.program
        both = found(lookup_in_ring(ring), *asked), found(played, *asked)
        for one, other in zip(*both, strict=True):
            np.testing.assert_array_equal(one, other)
            num_found += np.count_nonzero(one)
    assert num_found > 100


def test_without_a_metronome_nothing_is_remembered():
    tokens, state = random_events(0)
    silent = np.full(2, NO_TICK, np.int32)
    empty = ring_of(Onsets(*[silent[:, None]] * 3))
    ring = empty
    for t in range(30):
        now = Features(*(field[:, t] for field in state))._replace(tick=silent)
        ring = remember(ring, tf.constant(tokens[:, t]), now)
    assert NOTE_ON.holds(tokens[:, :30]).any()
    for before, after in zip(empty, ring, strict=True):
        np.testing.assert_array_equal(before, after)
