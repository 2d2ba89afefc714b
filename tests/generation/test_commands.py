"""The command that every file carries."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from midinet.generation.commands import command_for
from midinet.generation.generate import DEMO_MODEL
from midinet.generation.prompts import Prompt
from midinet.generation.request import Request
from midinet.generation.settings import SamplingSettings
from tests.generation.test_request import DEFAULTS


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        (Path("mine"), "mine"),
        (Path("/elsewhere/mine"), str(Path("/elsewhere/mine"))),
        ("HERE/my model", "my model"),
        (DEMO_MODEL, str(Path("midinet/demo"))),
    ],
    ids=["as typed", "elsewhere", "in the current folder", "the demo"],
)
def test_the_model_is_named_as_the_clone_can_find_it(folder, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(str(folder).replace("HERE", str(tmp_path)))
    prompt = Prompt(np.empty(0, np.uint16), "")
    request = Request(**DEFAULTS)
    words = shlex.split(command_for(folder, prompt, SamplingSettings(), request, None, None))
    assert words[:4] == ["python", "generate.py", "-s", named]
