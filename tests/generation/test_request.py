"""What a caller asks for: amounts of music and the instruments that may play."""

import numpy as np
import pytest

from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import DRUM_PROGRAM, TIME_SHIFT
from midinet.errors import OptionError
from midinet.generation.prompts import Prompt
from midinet.generation.request import Limit, Request
from midinet.generation.settings import PLAIN_FREEDOM, STATE_FREEDOM

DEFAULTS = {
    "length": 100,
    "top_k": None,
    "save_directory": None,
    "dataset": None,
    "inclusive": False,
    "primer": None,
    "song": None,
    "accompany": None,
    "keep": None,
    "seed_length": 512,
    "seconds": None,
    "full_length": False,
    "temperature": None,
    "top_p": None,
    "repetition": None,
    "seed": 3,
    "num": 1,
    "instruments": None,
    "max_instruments": None,
    "max_silence": 3.0,
    "max_note": None,
    "bpm": None,
    "output": "output",
    "plot": False,
    "wav": False,
    "mp3": False,
    "html": False,
    "soundfont": None,
    "progress": False,
}


NOTHING = Prompt(np.empty(0, np.uint16), "")


def test_a_limit_in_seconds_ends_when_every_piece_is_long_enough_or_has_ended():
    limit = Limit.checked(100, 2.0)
    heard_s, has_ended = np.array([1.5, 2.0]), np.array([False, False])
    assert not limit.is_reached(heard_s, has_ended)
    assert limit.is_reached(heard_s, np.array([True, False]))
    assert limit.is_reached(heard_s + 1, has_ended)
    assert not Limit.checked(100, None).is_reached(heard_s + 1, has_ended)


def test_a_limit_cuts_what_comes_after_its_time():
    second = TIME_SHIFT.end - 1
    tokens = np.array([276, 60, second, 62, second, 64], np.uint16)
    assert Limit.checked(100, 1.5).cut(tokens).tolist() == tokens[:4].tolist()
    assert Limit.checked(100, None).cut(tokens).tolist() == tokens.tolist()


@pytest.mark.parametrize(
    ("instruments", "drum_program", "programs"),
    [
        (None, DRUM_PROGRAM, None),
        ("40, drums", DRUM_PROGRAM, (40, DRUM_PROGRAM)),
        ("117", DRUM_PROGRAM, (118,)),  # 117 stands for percussion: its neighbour plays
        ("117, drums", None, (117,)),
    ],
)
def test_instruments_become_the_programs_of_the_codec(instruments, drum_program, programs):
    request = Request(**{**DEFAULTS, "instruments": instruments})
    settings = request.settings_for(CodecSettings(drum_program), NOTHING, True)
    assert settings.rules.programs == programs
    assert settings.seed == 3


@pytest.mark.parametrize(
    ("num_instruments", "options", "most"),
    [
        (0, {}, None),
        (5, {}, 5),
        (5, {"max_instruments": 2}, 2),
        (0, {"max_instruments": 2}, 2),
        (5, {"instruments": "strings"}, None),
        (5, {"instruments": "strings", "max_instruments": 2}, 2),
    ],
)
def test_as_many_instruments_play_as_the_song_has(num_instruments, options, most):
    prompt = NOTHING._replace(num_instruments=num_instruments, name="song.mid")
    settings = Request(**{**DEFAULTS, **options}).settings_for(CodecSettings(), prompt, True)
    assert settings.rules.max_programs == most


def test_percussion_alone_is_nothing_for_a_model_that_knows_none():
    request = Request(**{**DEFAULTS, "instruments": "drums"})
    with pytest.raises(OptionError, match="knows no percussion"):
        request.settings_for(CodecSettings(None), NOTHING, True)


def test_the_default_freedom_suits_the_model():
    def freedom(hears_state, **options):
        request = Request(**{**DEFAULTS, **options})
        settings = request.settings_for(CodecSettings(), NOTHING, hears_state)
        choice = [getattr(settings, name) for name in STATE_FREEDOM.of_sampling()]
        return *choice, settings.rules.max_programs, settings.rules.earliest_end_ms

    assert freedom(True) == STATE_FREEDOM
    assert freedom(False) == PLAIN_FREEDOM == (8, 1.0, 1.0, 0.0, 0.0, 1.0, None, 0)
    assert freedom(True, top_k=3, temperature=0.9)[:3] == (3, 0.9, STATE_FREEDOM.top_p)
    assert freedom(False, repetition=0.5) == PLAIN_FREEDOM._replace(repetition=0.5)
    assert freedom(True, max_instruments=3)[-2] == 3
    with pytest.raises(OptionError, match="repetition is -1: it must be 0"):
        Request(**{**DEFAULTS, "repetition": -1.0})
    with pytest.raises(OptionError, match="top_p is 2"):
        Request(**{**DEFAULTS, "top_p": 2.0})
