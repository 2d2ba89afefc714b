import wave

import numpy as np
import pytest

from midinet.rendering.mastering import PEAK, TARGET_LUFS, loudness, write_master

RATE = 44100


def tone(seconds, amplitude, hertz=997):
    """A sine wave, `(frames, 2)`."""
    wave_ = amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)
    return np.repeat(wave_[:, None], 2, axis=1).astype(np.float32)


def master(sound, tmp_path, unit=1.0):
    write_master(sound, unit, tmp_path / "x.wav", RATE)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE)
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return data.reshape(-1, 2) / 32767


def test_loudness_is_that_of_the_standard():
    """A sine at 997 Hz, 0 dB in one channel, is -3.01 LUFS. Source: BS.1770-4, annex 1."""
    mono = tone(4, 1)
    mono[:, 1] = 0
    assert loudness(mono, 1.0, RATE) == pytest.approx(-3.01, abs=0.05)
    assert loudness(tone(4, 0.1), 1.0, RATE) == pytest.approx(-20, abs=0.05)
    # Bass counts less, treble more.
    assert loudness(tone(4, 0.1, 40), 1.0, RATE) < -24
    assert loudness(tone(4, 0.1, 8000), 1.0, RATE) > -18


def test_silence_does_not_count_in_the_loudness():
    sound = np.concatenate([tone(4, 0.1), np.zeros((20 * RATE, 2), np.float32)])
    assert loudness(sound, 1.0, RATE) == pytest.approx(-20, abs=0.3)


@pytest.mark.parametrize("amplitude", [0.002, 0.2, 5])
def test_music_of_any_loudness_ends_up_as_loud(amplitude, tmp_path):
    sound = master(tone(5, amplitude), tmp_path)
    assert loudness(sound, 1.0, RATE) == pytest.approx(TARGET_LUFS, abs=0.2)


def test_one_late_peak_leaves_the_rest_as_loud_as_it_is(tmp_path):
    sound = tone(30, 0.05)
    sound[28 * RATE : 28 * RATE + 400] *= 30
    result = master(sound, tmp_path)
    assert np.abs(result).max() <= PEAK + 1e-4
    assert loudness(result[: 20 * RATE], 1.0, RATE) == pytest.approx(TARGET_LUFS, abs=1.2)


def test_the_limiter_does_not_distort_what_it_lowers(tmp_path):
    quiet_then_loud = np.concatenate([tone(20, 0.05), tone(2, 1), tone(20, 0.05)])
    result = master(quiet_then_loud, tmp_path)
    assert np.abs(result).max() <= PEAK + 1e-4
    middle = result[int(20.5 * RATE) : int(21.5 * RATE), 0]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    assert spectrum[990:1005].sum() / spectrum.sum() > 0.9999


def test_the_end_is_cut_where_it_has_faded_and_is_itself_a_fade(tmp_path):
    decay = 10 ** (-np.arange(60 * RATE) / (10 * RATE))[:, None].astype(np.float32)  # 2 dB a second
    result = master(tone(60, 1) * decay, tmp_path)
    seconds = len(result) / RATE
    assert 20 < seconds < 32
    fade = int(0.05 * RATE)
    assert np.abs(result[-fade - 400 : -fade]).max() == pytest.approx(0.001, rel=0.2)
    assert np.abs(result[-20:]).max() < 1e-4


def test_silence_stays_silent(tmp_path):
    assert not master(np.zeros((RATE, 2), np.float32), tmp_path).any()
    assert not master(np.zeros((1, 2), np.float32), tmp_path).any()
    noise = np.random.default_rng(0).normal(0, 1e-9, (RATE, 2))
    assert np.abs(master(noise, tmp_path)).max() < 1e-3


def test_whole_numbers_are_taken_with_their_full_scale(tmp_path):
    sound = tone(3, 0.5)
    whole = (sound * 2.0**31).astype("<i4")
    assert np.abs(master(whole, tmp_path, 2.0**31) - master(sound, tmp_path)).max() < 1e-4
