import numpy as np
import pytest

from midinet.rendering.effects import add_chorus, add_reverb

RATE = 44100


@pytest.fixture
def click():
    """Three seconds of silence after one click of energy 1."""
    sends = np.zeros(3 * RATE, np.float32)
    sends[0] = 1
    return sends


def test_reverb_fades_by_60_decibels_in_about_a_second(click):
    sound = np.zeros((2, len(click)), np.float32)
    add_reverb(sound, click, RATE)
    energy = np.square(sound).sum(axis=0)
    assert energy.sum() == pytest.approx(0.77, abs=0.02)
    early, late = (energy[int(s * RATE) : int((s + 0.1) * RATE)].sum() for s in (0.1, 0.6))
    assert 10 * np.log10(early / late) == pytest.approx(60 * 0.5 / 0.97, abs=1.5)
    assert 0.4 < np.corrcoef(sound[:, : RATE // 2])[0, 1] < 0.8


def test_reverb_of_long_music_has_no_seams():
    """The music is longer than the pieces in which it is convolved."""
    sends = np.zeros(10 * RATE, np.float32)
    sends[[5000, 7 * RATE]] = 1
    sound = np.zeros((2, len(sends)), np.float32)
    add_reverb(sound, sends, RATE)
    first, second = (sound[:, at : at + 2 * RATE] for at in (5000, 7 * RATE))
    assert np.abs(first - second).max() < 1e-5


def test_chorus_delays_three_copies_by_up_to_8_ms(click):
    sound = np.zeros((2, len(click)), np.float32)
    add_chorus(sound, click, RATE)
    heard = np.flatnonzero(np.abs(sound[0]) > 0.01)
    assert heard.max() <= 0.008 * RATE + 2
    assert np.abs(sound[0]).sum() == pytest.approx(3 * 2.76, rel=0.05)
    assert np.array_equal(sound[0], sound[1])


def test_effects_of_silence_are_silence(click):
    sound = np.zeros((2, len(click)), np.float32)
    add_reverb(sound, 0 * click, RATE)
    add_chorus(sound, 0 * click, RATE)
    assert not sound.any()
