"""What generate.py --list shows: the names that other options take."""

from __future__ import annotations

from pathlib import Path

from midinet.errors import OptionError
from midinet.midi.general_midi import PERCUSSION, PROGRAM_FAMILIES, PROGRAM_NAMES

LISTS = ("instruments", "songs")


def show_list(what: str, dataset: str | Path | None) -> str:
    """The instruments that --instruments takes, or the songs that --song takes.

    Raises:
        OptionError: there is no such list, or the songs of no data set are asked for.
        CorpusError: the folder holds no data set.
    """
    if what not in LISTS:
        raise OptionError(f"list is {what}: it must be {' or '.join(LISTS)}")
    if what == "instruments":
        return _instruments()
    if dataset is None:
        raise OptionError("list is songs: it needs a data set, named with -d")
    return _songs(dataset)


def _instruments() -> str:
    size = len(PROGRAM_NAMES) // len(PROGRAM_FAMILIES)
    lines = [f"{PERCUSSION} (drums)"]
    for index, family in enumerate(PROGRAM_FAMILIES):
        programs = range(index * size, (index + 1) * size)
        lines += [family, *(f"  {program:3}  {PROGRAM_NAMES[program]}" for program in programs)]
    lines.append("--instruments takes numbers, names, parts of names and whole families")
    return "\n".join(lines)


def _songs(dataset: str | Path) -> str:
    from midinet.data.corpus import open_corpus

    corpus = open_corpus(dataset)
    lengths = (len(corpus.song(index)) for index in range(len(corpus)))
    return "\n".join(
        f"{name}  ({length:,} tokens)" for name, length in zip(corpus.names, lengths, strict=True)
    )
