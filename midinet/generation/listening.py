"""How to hear what was composed: the page that plays it, and what the script says at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midinet.folders import replacing
from midinet.generation.tempo import final_bpm

if TYPE_CHECKING:
    from midinet.generation.pieces import Piece
    from midinet.generation.prompts import Prompt
    from midinet.generation.settings import SamplingSettings


def describe_model(folder: Path, is_demo: bool, training: Mapping[str, Any]) -> str:
    """Names a model, and says how long it was trained and with which result.

    Args:
        folder: the model's folder.
        is_demo: whether it is the model that comes with the project.
        training: how it was trained, as its folder says: `history` has an entry for each epoch.

    Example:
        >>> describe_model(Path("mine"), False, {"history": [{"epoch": 3, "val_loss": 1.5}]})
        'mine (3 epochs, validation loss 1.50)'
    """
    name = "the demo model" if is_demo else str(folder)
    history = training.get("history") or []
    # The weights are those of the best epoch.
    losses = [entry.get("val_loss") or math.nan for entry in history]
    best = min((loss for loss in losses if math.isfinite(loss)), default=None)
    said = [f"{len(history)} epoch{'s' * (len(history) != 1)}"] if history else []
    said += [] if best is None else [f"validation loss {best:.2f}"]
    return f"{name} ({', '.join(said)})" if said else name


def title_of(path: Path, prompt: Prompt) -> str:
    """The heading of a piece: its file's name, and that of the song it goes on from or joins."""
    title = f"{path.stem}, {prompt.origin}" if prompt.name else path.stem
    return title if prompt.kept is None else f"{title} (kept: {', '.join(prompt.kept.names)})"


def page_facts(
    composer: str, prompt: Prompt, settings: SamplingSettings, instruments: str | None
) -> dict[str, str]:
    """What the page tells of every piece, beside its random seed."""
    facts = {"Model": composer}
    if prompt.kept is not None:
        facts["Accompanies"] = f"{Path(prompt.name).stem}: {', '.join(prompt.kept.names)}"
    elif prompt.name:
        facts["Continues"] = Path(prompt.name).stem
    facts["Top-k"] = str(settings.top_k)
    facts["Temperature"] = f"{settings.temperature:g}"
    if settings.top_p < 1:
        facts["Top-p"] = f"{settings.top_p:g}"
    if settings.repetition:
        facts["Repetition"] = f"{settings.repetition:g}"
    if instruments is not None:
        facts["Instruments"] = instruments
    return facts


def write_page(
    pieces: Sequence[Piece],
    paths: Sequence[Path],
    prompt: Prompt,
    facts: Mapping[str, str],
    soundfont: str | Path | None,
) -> None:
    """Writes one page that plays all pieces beside the first of them.

    Args:
        pieces: the music.
        paths: the MIDI files of the pieces.
        prompt: what they go on from, or accompany.
        facts: names and values to show with every piece.
        soundfont: the SoundFont to play with; None: the one that comes with pretty_midi.

    Raises:
        AudioError: the SoundFont can't be used.
        OSError: the page can't be written.
    """
    from midinet.rendering.player_page import PlayerPiece, player_page

    page = player_page(
        [
            PlayerPiece(
                title_of(path, prompt),
                piece.notes,
                path.read_bytes(),
                path.name,
                seed_end_ms=piece.seed_end_ms,
                kept=[] if prompt.kept is None else prompt.kept.names,
                facts={**facts, **_own_facts(piece)},
                command=piece.command,
            )
            for piece, path in zip(pieces, paths, strict=True)
        ],
        soundfont,
    )
    with replacing(paths[0].with_suffix(".html")) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _own_facts(piece: Piece) -> dict[str, str]:
    """What the page tells of one piece."""
    facts = {"Random seed": str(piece.seed)}
    if piece.notes.tempo_map is not None:
        facts["Tempo"] = f"{final_bpm(piece.notes.tempo_map):g} bpm"
    return facts


def how_to_listen(paths: Sequence[Path], html: bool, sounds: Sequence[str]) -> str:
    """Says how to hear pieces at `paths`; `sounds` has the suffixes of their sound files."""
    if html:
        return f"To listen, open {paths[0].with_suffix('.html')} in a browser."
    if sounds:
        return f"To listen, play {', '.join(str(path.with_suffix(sounds[-1])) for path in paths)}."
    return "To listen, add --html for a page that plays in your browser, or --wav for a sound file."
