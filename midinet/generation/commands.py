"""The command that composes a piece again, which every file carries."""

from __future__ import annotations

import shlex
from pathlib import Path

from midinet.generation.prompts import Prompt
from midinet.generation.request import Request
from midinet.generation.settings import DEFAULT_LENGTH, GrammarRules, SamplingSettings
from midinet.generation.tempo import Bpm

CLONE = Path(__file__).parents[2]


def command_for(
    folder: Path,
    prompt: Prompt,
    settings: SamplingSettings,
    request: Request,
    stopped_after: int | None,
    bpm: Bpm,
) -> str:
    """The command that composes a piece again.

    Args:
        folder: the model's.
        prompt: what the piece goes on from.
        settings: how it was sampled; their seed is the piece's own.
        request: what else was asked for.
        stopped_after: after how many tokens Ctrl-C came, if it did.
        bpm: the tempo to ask for.
    """
    # From wherever it was composed: a clone finds its own demo model.
    name = str(folder.relative_to(CLONE)) if folder.is_relative_to(CLONE) else as_typed(folder)
    words = ["python", "generate.py", "-s", name]
    if request.dataset is not None:
        words += ["-d", str(request.dataset), "--song", prompt.name]
    elif request.primer is not None:
        words += ["--primer", prompt.name]
    elif request.accompany is not None:
        words += ["--accompany", prompt.name]
    if request.keep is not None:
        words += ["--keep", request.keep]
    if prompt.name and prompt.kept is None:
        words += ["--seed_length", str(request.seed_length)]
    if request.instruments is not None:
        words += ["--instruments", request.instruments]
    words += _as_options(settings) + ["--inclusive"] * request.inclusive
    if bpm is not None:
        words += ["--bpm", str(bpm).removesuffix(".0")]
    words += _amount(request, stopped_after)
    return shlex.join([*words, "--seed", str(settings.seed)])


def _amount(request: Request, stopped_after: int | None) -> list[str]:
    """The options that say how much to compose."""
    accompanies = request.accompany is not None
    said: list[object] = []
    # Of an accompaniment the seconds say what is kept, wherever composing stopped.
    if request.seconds is not None and (accompanies or stopped_after is None):
        said += ["--seconds", request.seconds]
    tokens = stopped_after or request.length
    if not accompanies and not said:
        tokens = tokens or DEFAULT_LENGTH
    if tokens is not None and (accompanies or not said):
        said += ["-l", tokens]
    return list(map(str, said))


def as_typed(folder: Path) -> str:
    """A model's folder as a command in the clone names it: no home folder goes into the music."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _as_options(settings: SamplingSettings) -> list[str]:
    rules = settings.rules or GrammarRules()
    options: list[object] = ["-k", settings.top_k]
    if rules.max_programs is not None:
        options = ["--max_instruments", rules.max_programs, *options]
    options += ["--temperature", settings.temperature, "--top_p", settings.top_p]
    options += ["--repetition", settings.repetition]
    options += ["--max_silence", rules.max_silence_ms / 1000]
    if len(set(rules.longest_notes_ms)) == 1:  # otherwise they are the habits that the model tells
        options += ["--max_note", rules.max_note_ms / 1000]
    return [str(option) for option in options] + ["--full_length"] * (not rules.may_end)
