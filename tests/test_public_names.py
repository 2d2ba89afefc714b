"""The public interface: every name is there, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import midinet

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.parametrize("name", midinet.__all__)
def test_every_public_name_is_there(name):
    assert getattr(midinet, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compose_symphony'"):
        _ = midinet.compose_symphony


def test_every_error_is_a_midinet_error():
    errors = [getattr(midinet, name) for name in midinet.__all__ if name.endswith("Error")]
    assert len(errors) >= 9
    assert all(issubclass(error, midinet.MidinetError) for error in errors)


def test_importing_midinet_starts_nothing_heavy():
    code = "import sys, midinet; print({'tensorflow', 'keras', 'numpy', 'mido'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "module",
    [
        "midi.reader",
        "midi.writer",
        "codec.encoding",
        "codec.decoding",
        "data.preprocess",
        "downloads.download",
        "rendering.piano_roll",
    ],
)
def test_music_is_handled_without_tensorflow(module):
    code = f"import sys, midinet.{module}; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
