"""The state of the music: both ways to compute it agree with a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midinet import Notes, encode
from midinet.backend import tf
from midinet.codec.restating import NOT_RESTATED
from midinet.codec.vocabulary import NOTE_OFF, NOTE_ON, PAD, PROGRAM, TIME_SHIFT, VELOCITY
from midinet.model import music_state
from midinet.model.music_state import NO_TICK, Features, MusicStateEmbedding, Pulse, to_numbers

DRUM_PROGRAM = 117
C4, E4 = 60, 64
FLUTE, BASS = 73, 33


def shift(steps: int) -> int:
    return TIME_SHIFT.first + steps - 1


def windows_of(*tokens: int) -> np.ndarray:
    return np.array([tokens])


def by_a_plain_loop(tokens: np.ndarray, drum_program: int | None) -> Features:
    """The definition, token by token, with a dictionary of what sounds."""
    program = level = now = 0
    onsets: dict[tuple[int, int], int] = {}
    rows = []
    for token in tokens.tolist():
        pitch = token % 128
        is_melodic = program != drum_program
        if token < NOTE_ON.end:
            if is_melodic:
                onsets[program, pitch] = now
        elif token < NOTE_OFF.end:
            onsets.pop((program, pitch), None)
        elif token < VELOCITY.end:
            level = token - VELOCITY.first
        elif token < TIME_SHIFT.end:
            now += token - TIME_SHIFT.first + 1
        elif token < PROGRAM.end:
            program = token - PROGRAM.first
        notes, programs = np.full(128, -1), np.full(128, -1)
        for (which, key), onset in onsets.items():
            age = min(now - onset, music_state.MAX_AGE_STEPS)
            programs[which] = max(programs[which], age)
            if which == program:
                notes[key] = age
        rows.append((program, level, notes, programs, now, math.nan, NO_TICK, 0.0))
    return Features(*(np.array(column) for column in zip(*rows, strict=True)))


def random_song(seed: int, notes: int = 150) -> np.ndarray:
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, 20_000, notes)) * 1.0
    return encode(
        Notes(
            start_ms=start,
            end_ms=start + random.integers(20, 3000, notes),
            program=random.choice([0, FLUTE, BASS], notes).astype(np.uint8),
            pitch=random.integers(50, 70, notes).astype(np.uint8),
            velocity=random.integers(1, 128, notes).astype(np.uint8),
            is_drum=random.random(notes) < 0.3,
        )
    ).astype(np.int64)[:400]


def random_tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, PAD + 1, 400)


def dense_events(seed: int) -> np.ndarray:
    """Tokens of few pitches and programs, so that notes meet again often, in any order."""
    random = np.random.default_rng(seed)
    choices = [C4, E4, NOTE_OFF.first + C4, shift(100), shift(7), PROGRAM.first + FLUTE]
    choices += [PROGRAM.first, PROGRAM.first + DRUM_PROGRAM, VELOCITY.first + 9, PAD]
    return random.choice(choices, 400)


def assert_same(one: Features, other: Features, row: int) -> None:
    for name, a, b in zip(Features._fields, one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[row], np.asarray(b), err_msg=name)


@pytest.mark.parametrize("drum_program", [DRUM_PROGRAM, None])
@pytest.mark.parametrize("make", [random_song, random_tokens, dense_events])
def test_all_ways_to_compute_it_agree(make, drum_program):
    tokens = np.stack([np.resize(make(seed), 400) for seed in range(3)])
    by_window = music_state.window_features(tokens, drum_program)
    by_token = music_state.token_features(
        tf.constant(tokens, tf.int32),
        tf.constant(-1 if drum_program is None else drum_program),
    )
    for row in range(3):
        expected = by_a_plain_loop(tokens[row], drum_program)
        assert_same(by_window, expected, row)
        assert_same(by_token, expected, row)


def test_a_note_sounds_from_its_note_on_to_its_note_off():
    tokens = windows_of(PROGRAM.first + FLUTE, C4, shift(30), NOTE_OFF.first + C4, shift(5))
    state = music_state.window_features(tokens, DRUM_PROGRAM)
    assert state.note_ages[0, :, C4].tolist() == [-1, 0, 30, -1, -1]
    assert state.program_ages[0, :, FLUTE].tolist() == [-1, 0, 30, -1, -1]
    assert state.now_steps[0].tolist() == [0, 0, 30, 30, 35]


def test_only_the_current_programs_pitches_are_seen_but_every_program_that_sounds():
    tokens = windows_of(C4, shift(10), PROGRAM.first + BASS, E4, shift(1))
    state = music_state.window_features(tokens, DRUM_PROGRAM)
    assert np.flatnonzero(state.note_ages[0, -1] >= 0).tolist() == [E4]
    assert state.program_ages[0, -1, [0, BASS]].tolist() == [11, 1]


def test_percussion_never_sounds_on():
    tokens = windows_of(PROGRAM.first + DRUM_PROGRAM, 36, shift(1))
    assert music_state.window_features(tokens, DRUM_PROGRAM).note_ages.max() == -1
    assert music_state.window_features(tokens, None).note_ages.max() == 1


def test_a_restated_note_keeps_its_true_age():
    tokens = windows_of(PROGRAM.first, VELOCITY.first + 20, C4, E4, shift(10))
    onsets = np.full(tokens.shape, NOT_RESTATED)
    onsets[0, 2] = 400
    state = music_state.window_features(tokens, DRUM_PROGRAM, np.array([1000]), onsets)
    assert state.note_ages[0, -1, [C4, E4]].tolist() == [610, 10]
    assert state.program_ages[0, -1, 0] == 610


def test_windows_do_not_hear_each_other():
    tokens = np.array([[C4, shift(10)], [shift(20), shift(5)]])
    state = music_state.window_features(tokens, DRUM_PROGRAM)
    assert (state.note_ages[1] == -1).all()
    assert state.now_steps.tolist() == [[0, 10], [20, 25]]


def features_at(steps: int, beat: float) -> np.ndarray:
    state = music_state.window_features(
        windows_of(PAD),
        DRUM_PROGRAM,
        np.array([steps]),
        pulse=Pulse.of(np.array([[beat]]), np.array([[0.02]])),
    )
    return to_numbers(state).numpy()[0, 0]


def test_clock_and_metronome_repeat_after_their_longest_period():
    longest = music_state.CLOCK_PERIODS_STEPS[-1]
    for steps, beat in ((3, 0.25), (700, 7.5)):
        now = features_at(steps, beat)
        np.testing.assert_array_equal(now, features_at(steps + 1000 * longest, beat))
        np.testing.assert_allclose(now, features_at(steps, beat + 16 * 999), atol=1e-5)
        assert not np.allclose(now, features_at(steps + 1, beat))
        assert not np.allclose(now, features_at(steps, beat + 0.125))


def test_without_a_metronome_its_numbers_are_zero():
    numbers = features_at(5, math.nan)
    assert (numbers[-2 * len(music_state.BEAT_RATES) :] == 0).all()
    assert np.isfinite(numbers).all()


def test_the_layer_embeds_every_number():
    layer = MusicStateEmbedding(8)
    state = music_state.window_features(windows_of(C4, shift(9)), DRUM_PROGRAM)
    assert layer(state).shape == (1, 2, 8)
    shapes = [tuple(weight.shape) for weight in layer.trainable_variables]
    assert shapes == [(128, 8), (32, 8), (music_state.NUM_FEATURES, 8)]
