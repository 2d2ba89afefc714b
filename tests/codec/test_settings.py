"""The codec's settings: they survive JSON, and impossible ones are refused."""

from __future__ import annotations

import pytest

from midinet import CodecSettings, ParametersError


def test_settings_survive_json():
    for settings in (
        CodecSettings(),
        CodecSettings(None, sustain=False),
        CodecSettings(0, volume=False),
    ):
        assert CodecSettings.from_dict(settings.to_dict()) == settings


def test_settings_of_older_folders_know_no_volume():
    older = {"drum_program": 117, "sustain": True}
    assert CodecSettings.from_dict(older) == CodecSettings(volume=False)
    # So that the fingerprints of data sets and the runs made from them stay the same.
    assert CodecSettings(volume=False).to_dict() == older


@pytest.mark.parametrize("drum_program", [-1, 128, 1.5, "117", True])
def test_a_drum_program_that_is_no_program_is_refused(drum_program):
    with pytest.raises(ParametersError, match="drum_program"):
        CodecSettings(drum_program)


@pytest.mark.parametrize(
    "values",
    [
        *(None, [], {}, {"drum_program": 117}, {"a": 1}),
        {"drum_program": 117, "sustain": 1},
        {"drum_program": 117, "sustain": True, "volume": None},
    ],
)
def test_damaged_settings_are_refused(values):
    with pytest.raises(ParametersError):
        CodecSettings.from_dict(values)
