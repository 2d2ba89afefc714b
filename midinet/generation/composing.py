"""Composing pieces: what is asked of a model goes in, and music comes out."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from midinet.backend import tf
from midinet.codec.vocabulary import PAD, STEP_MS
from midinet.errors import OptionError
from midinet.generation import sampling
from midinet.generation.accompaniment import KeptPart
from midinet.generation.commands import command_for
from midinet.generation.costs import describe_cost
from midinet.generation.kept_events import to_kept_events
from midinet.generation.pieces import Piece, to_notes
from midinet.generation.piecewise import stream_pieces
from midinet.generation.prompts import Prompt, time_ms
from midinet.generation.request import Limit, Request
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.generation.tempo import Bpm, choose_metronome, final_bpm, with_beats
from midinet.midi.tempo_map import TempoMap
from midinet.model.music_transformer import MusicTransformer

# Those of tqdm itself turn the speed around when it is below 1, to "3.2s/ tokens".
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} tokens [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_BAR_WITHOUT_TOTAL = "{n_fmt} tokens [{elapsed}, {rate_noinv_fmt}{postfix}]"

_TOKENS_PER_KEPT_NOTE = 5  # PROGRAM, VELOCITY and NOTE_ON; PROGRAM and NOTE_OFF
_SPARE_TOKENS = 1000  # for a very short accompaniment


def compose_pieces(
    model: MusicTransformer,
    folder: Path,
    prompt: Prompt,
    settings: SamplingSettings,
    request: Request,
) -> list[Piece]:
    """Composes the pieces that are asked for; after Ctrl-C, what there is by then.

    Args:
        model: the model to sample from.
        folder: its folder.
        prompt: what each piece goes on from.
        settings: how to sample; piece i uses their seed + i.
        request: what is asked for.

    Raises:
        OptionError: more pieces than memory holds.
        KeyboardInterrupt: Ctrl-C, before there was anything.
    """
    metronomes = _choose_metronomes(model, prompt, request)
    limit = _limit_of(request, prompt)
    if request.progress and prompt.kept is not None and prompt.kept.num_merged:
        print(_describe_merged(prompt.kept), file=sys.stderr)
    cost = describe_cost(model.parameters, request.num, len(prompt.tokens), limit)
    if cost and request.progress:
        print(cost, file=sys.stderr)
    made, interrupted = _compose(model, prompt, metronomes, settings, request, limit)
    rules = settings.rules or GrammarRules()
    pieces = []
    for index, (tokens, metronome) in enumerate(zip(made, metronomes, strict=True)):
        own = dataclasses.replace(settings, seed=settings.seed + index)
        notes, seed_end_ms = to_notes(prompt.tokens, tokens, model.codec, rules, request.inclusive)
        if prompt.kept is not None:
            tempo = request.tempo if isinstance(request.tempo, float) else None
            notes = prompt.kept.joined_by(notes, prompt.kept.beats(tempo))
        else:
            notes = with_beats(notes, metronome, prompt, request.inclusive)
        bpm: Bpm = request.tempo
        if metronome is not None and not prompt.name:
            bpm = final_bpm(metronome)
        # The same command must stop where Ctrl-C did.
        stopped_after = max(1, len(tokens)) if interrupted else None
        command = command_for(folder, prompt, own, request, stopped_after, bpm)
        pieces.append(Piece(notes, seed_end_ms, own.seed, command))
    return pieces


def _choose_metronomes(
    model: MusicTransformer, prompt: Prompt, request: Request
) -> list[TempoMap | None]:
    """The beats to which to compose each piece."""
    if not model.hears_state:
        if isinstance(request.tempo, float):
            raise OptionError(
                f"bpm is {request.bpm}: this model hears no metronome, so leave bpm out, or train "
                "a new model"
            )
        return [None] * request.num
    tempi_bpm = model.history_of_training.get("tempi_bpm", [])
    return [
        choose_metronome(request.tempo, prompt, tempi_bpm, request.seed + index)
        for index in range(request.num)
    ]


def _compose(
    model: MusicTransformer,
    prompt: Prompt,
    metronomes: list[TempoMap | None],
    settings: SamplingSettings,
    request: Request,
    limit: Limit,
) -> tuple[list[np.ndarray], bool]:
    """The new tokens of each piece, until all have ended or are long enough, or Ctrl-C.

    Returns:
        The tokens, and whether Ctrl-C came.
    """
    prompts = [prompt.tokens] * request.num
    kept = None
    if prompt.kept is not None:
        kept = to_kept_events(prompt.kept.heard, model.codec.drum_program)
    total = limit.tokens * len(prompts) if limit.seconds is None else None
    made = np.empty((len(prompts), 0), np.uint16)
    interrupted = False
    try:
        with tqdm(
            total=total,
            unit=" tokens",
            bar_format=_BAR if total else _BAR_WITHOUT_TOTAL,
            disable=not request.progress,
        ) as bar:
            for part in stream_pieces(
                model,
                prompts,
                limit.tokens,
                settings=settings,
                metronomes=metronomes,
                kept=kept,
                expected_tokens=limit.expected_tokens,
            ):
                made = np.concatenate([made, part], axis=1)
                heard_s = time_ms(made)[:, -1] / 1000
                has_ended = made[:, -1] == PAD
                bar.set_postfix_str(_describe_progress(heard_s, has_ended, limit), refresh=False)
                bar.update(part.size)
                if limit.is_reached(heard_s, has_ended):
                    break
    except tf.errors.ResourceExhaustedError as error:
        raise OptionError(
            f"out of memory composing {len(prompts)} at once: take fewer (--num) or a smaller model"
        ) from error
    except KeyboardInterrupt:
        if not made.size:
            raise
        interrupted = True
        print("midinet: interrupted, writing what there is", file=sys.stderr)
    return [limit.cut(sampling.trim_at_pad(piece)) for piece in made], interrupted


def _limit_of(request: Request, prompt: Prompt) -> Limit:
    """How much to compose; an accompaniment ends with the last kept note, if no length is given."""
    if prompt.kept is None:
        return request.limit
    # One step more, so that nothing is cut.
    limit = Limit.checked(None, (prompt.kept.end_ms + STEP_MS) / 1000)
    tokens = limit.tokens + _TOKENS_PER_KEPT_NOTE * len(prompt.kept.heard) + _SPARE_TOKENS
    return dataclasses.replace(limit, tokens=min(tokens, request.length or tokens))


def _describe_merged(kept: KeptPart) -> str:
    """Says what of the song the tokens can't hold."""
    count, of_all = kept.num_merged, len(kept.notes) + kept.num_merged
    return (
        f"{count:,} of the {of_all:,} kept notes begin together with another one of the same "
        "instrument and pitch: the tokens can only hold one of them"
    )


def _describe_progress(heard_s: np.ndarray, has_ended: np.ndarray, limit: Limit) -> str:
    """How much music there is of the shortest piece that goes on; of the longest if none does."""
    shown_s = heard_s.max() if has_ended.all() else heard_s[~has_ended].min()
    of_all = "" if limit.seconds is None else f" of {limit.seconds:g} s"
    return f"{shown_s:.0f} s{of_all} of music"
