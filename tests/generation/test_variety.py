"""A pitch that is too frequent becomes less likely, and new instruments where there are few."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, PROGRAM, TIME_SHIFT, VELOCITY, VOCAB_SIZE
from midinet.generation import grammar, variety
from midinet.generation.rule_tensors import to_tensors
from midinet.generation.sampling import compose
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.model.music_transformer import build_model
from midinet.model.parameters import Parameters

C4, E4 = 60, 64


def shares_after(tokens: list[int]) -> np.ndarray:
    rules = to_tensors(GrammarRules(), DRUM_PROGRAM)
    return grammar.state_after_prompts([np.array(tokens)], rules).pitch_shares.numpy()[0]


def test_the_share_of_a_pitch_in_the_melody_is_remembered():
    song = [PROGRAM.first, VELOCITY.first + 20] + 600 * [C4, TIME_SHIFT.first] + 3 * [E4]
    shares = shares_after(song)
    assert shares[C4] == pytest.approx(1, abs=0.05)
    assert shares[E4] == pytest.approx(3 / variety.MEMORY_NOTES, rel=0.05)
    assert shares.sum() == pytest.approx(1, abs=0.05)


def test_percussion_is_no_melody():
    song = [PROGRAM.first + DRUM_PROGRAM, VELOCITY.first + 20] + 50 * [36, TIME_SHIFT.first]
    assert not shares_after(song).any()


def test_only_unusually_frequent_pitches_become_less_likely():
    shares = np.zeros((2, 128), np.float32)
    shares[:, C4], shares[:, E4], shares[:, 20:30] = 0.7, 0.25, 0.005
    logits = np.zeros((2, VOCAB_SIZE), np.float32)
    is_melodic = tf.constant([True, False])
    after = variety.discourage_frequent(logits, shares, is_melodic, tf.constant(10.0)).numpy()
    assert after[0, C4] == pytest.approx(-10 * (0.7 - variety.USUAL_SHARE), rel=1e-5)
    assert np.count_nonzero(after) == 1
    unchanged = variety.discourage_frequent(logits, shares, is_melodic, tf.constant(0.0))
    np.testing.assert_array_equal(unchanged, logits)


def test_a_pitch_is_noticed_early_but_not_before_there_is_a_melody():
    def penalty(tokens: list[int]) -> float:
        shares = tf.constant(shares_after([PROGRAM.first, VELOCITY.first + 20, *tokens])[None])
        logits = tf.zeros((1, VOCAB_SIZE))
        changed = variety.discourage_frequent(logits, shares, tf.constant([True]), tf.constant(1.0))
        return -float(changed[0, C4])

    assert penalty(4 * [C4, TIME_SHIFT.first]) == 0
    assert penalty(16 * [C4, TIME_SHIFT.first]) > 0.6
    assert penalty(8 * [C4, E4, TIME_SHIFT.first]) == pytest.approx(0.18, abs=0.03)


def test_a_piece_of_fewer_than_three_instruments_invites_others():
    has_played = np.zeros((3, 128), bool)
    has_played[0, :1] = has_played[1, :2] = has_played[2, :3] = True
    logits = np.zeros((3, VOCAB_SIZE), np.float32)
    after = variety.invite_programs(logits, has_played, tf.constant(30.0)).numpy()
    new = slice(PROGRAM.first + 3, PROGRAM.end)
    np.testing.assert_allclose(after[0, new], 2.0, rtol=1e-5)
    np.testing.assert_allclose(after[1, new], 1.0, rtol=1e-5)
    assert not after[2].any()
    assert not after[:, : PROGRAM.first + 1].any(), "what has played is as likely as before"
    assert not after[:, PROGRAM.end :].any()


def test_a_model_that_likes_one_pitch_plays_others_too():
    parameters = Parameters(
        embedding_size=8, sequence_length=64, num_blocks=1, num_heads=1, feed_forward_dim=8
    )
    model = build_model(parameters, CodecSettings())
    bias = np.zeros(VOCAB_SIZE, np.float32)
    bias[C4], bias[PROGRAM.first :] = 9.0, -9.0
    model.logits.kernel.assign(np.zeros(model.logits.kernel.shape))
    model.logits.bias.assign(bias)

    def share_of_c4(strength: float) -> float:
        settings = SamplingSettings(VOCAB_SIZE, variety=strength, rules=GrammarRules(may_end=False))
        tokens = compose(model, [np.zeros(0, np.uint16)], 800, settings=settings)[0]
        notes = tokens[tokens < 128]
        return float(np.mean(notes[len(notes) // 2 :] == C4))

    assert share_of_c4(0.0) > 0.42
    assert share_of_c4(100.0) < 0.36
