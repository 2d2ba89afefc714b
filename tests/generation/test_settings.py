"""Settings of composing refuse what makes no sense."""

import dataclasses

import pytest

from midinet.codec.vocabulary import VOCAB_SIZE
from midinet.errors import OptionError
from midinet.generation.settings import GrammarRules, SamplingSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 0),
        ("top_k", VOCAB_SIZE + 1),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("repetition", -0.1),
        ("repetition", 11.0),
        ("kind_temperature", 0.0),
        ("seed", -1),
        ("bpm", 0),
        ("bpm", float("nan")),
    ],
)
def test_impossible_sampling_is_named(name, value):
    with pytest.raises(OptionError, match=name):
        SamplingSettings(**{name: value})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"programs": ()}, "instruments"),
        ({"programs": (128,)}, "instruments"),
        ({"max_silence_ms": 0}, "max_silence"),
        ({"max_note_ms": -5}, "max_note"),
    ],
)
def test_impossible_rules_are_named(values, name):
    with pytest.raises(OptionError, match=name):
        GrammarRules(**values)


def test_the_limits_themselves_are_possible():
    settings = SamplingSettings(VOCAB_SIZE, top_p=1.0, bpm=10)
    assert dataclasses.replace(settings, top_k=1, bpm=1000).rules == GrammarRules()
    GrammarRules((0, 127), max_silence_ms=10, max_note_ms=3_600_000)
