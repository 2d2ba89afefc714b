"""Composing music files: a model and a seed in; MIDI files, pictures and sound out.

TensorFlow starts only when every argument has been checked.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import PAD, STEP_MS, TIME_SHIFT, melodic_substitute
from midinet.errors import ModelError, OptionError
from midinet.folders import Kind, kind_of, no_model
from midinet.generation.listening import (
    describe_model,
    how_to_listen,
    page_facts,
    title_of,
    write_page,
)
from midinet.generation.outputs import check_output, check_writable, unused_paths, write_midi
from midinet.generation.prompts import (
    DEFAULT_SEED_LENGTH,
    SeedLength,
    open_primer,
    open_song,
    time_ms,
    up_to_last_event,
)
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.midi.general_midi import find_instruments
from midinet.midi.notes import Notes

if TYPE_CHECKING:
    from midinet.model.music_transformer import MusicTransformer

DEFAULT_MODEL = Path("midinet_model")
DEMO_MODEL = Path(__file__).parents[1] / "demo"

_RING_MS = 500  # what still sounds when a piece is cut rings on for so long
_LONGEST_S = 86_400
_MOST_TOKENS_A_SECOND = 1_000  # ten times what dense music takes; bounds what --seconds may cost


def generate(  # noqa: C901, PLR0913  # a parameter for each option of the script
    length: int = 2500,
    top_k: int = 8,
    save_directory: str | Path | None = None,
    dataset: str | Path | None = None,
    inclusive: bool = False,
    *,
    primer: str | Path | None = None,
    song: str | None = None,
    seed_length: int | str = DEFAULT_SEED_LENGTH,
    seconds: float | None = None,
    full_length: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int | None = None,
    num: int = 1,
    instruments: str | None = None,
    max_silence: float = 3.0,
    max_note: float = 20.0,
    output: str | Path = "output",
    plot: bool = False,
    wav: bool = False,
    html: bool = False,
    soundfont: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Composes music and writes it as MIDI files.

    Ctrl-C stops composing; what there is by then is written.

    Args:
        length: the most tokens to compose for a piece.
        top_k: choose each token among this many likeliest.
        save_directory: the model's folder; None: midinet_model if there is one, else the demo.
        dataset: a data set; the piece goes on from one of its songs.
        inclusive: whether the files begin with the seed.
        primer: a MIDI file to go on from.
        song: which song of the data set, by its name or a part of it; None: a random one.
        seed_length: how much of the song or the primer to go on from: tokens, or seconds as in
            "10s".
        seconds: compose so much music, about, instead of `length` tokens.
        full_length: go on where the model would end the piece.
        temperature: above 1 more surprising, below 1 more predictable.
        top_p: choose among the likeliest tokens that together have this probability.
        seed: of the random numbers; piece i of several uses seed + i. None: a random one.
        num: pieces to compose at once.
        instruments: the only ones that may play: names or numbers with commas between.
        max_silence: longest silence, in seconds.
        max_note: longest note, in seconds.
        output: a folder, in which files are named by date and time, or the name of a .mid file.
            Nothing is ever overwritten.
        plot: whether to draw a piano roll beside each file.
        wav: whether to play each file into a WAV file beside it.
        html: whether to write a page that plays all pieces in a browser, beside the first file.
        soundfont: the SoundFont to play with; None: one found in the usual places for `wav`, and
            the one that comes with pretty_midi for `html`.
        progress: whether to show a progress bar and what was written.

    Returns:
        The paths of the MIDI files.

    Raises:
        OptionError: an argument that makes no sense, or more pieces than memory holds.
        ModelError, CorpusError, MidiError: a model, data set or primer that can't be opened.
        AudioError: the SoundFont is missing or damaged, and nothing was composed; or no sound
            could be made, and the MIDI files are there.
        MidinetError, OSError: a file can't be written.
    """
    seed_cut = SeedLength.parse(seed_length)
    if num < 1:
        raise OptionError(f"num is {num}: it must be at least 1 piece")
    if primer is not None and dataset is not None:
        raise OptionError("primer and dataset: a piece can go on from one of them only")
    if song is not None and dataset is None:
        raise OptionError(f"song {song!r}: name the data set that holds it too")
    players = None if instruments is None else find_instruments(instruments)
    silence_ms, note_ms = _to_ms("max_silence", max_silence), _to_ms("max_note", max_note)
    rules = GrammarRules(None, silence_ms, note_ms, may_end=not full_length)
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    settings = SamplingSettings(top_k, temperature, top_p, seed, rules)
    limit = _Limit.checked(length, seconds)
    if soundfont is not None and not (wav or html):
        raise OptionError(
            f"soundfont {soundfont}: it needs --wav or --html, which play the music with it"
        )
    folder = find_model(save_directory)
    check_output(Path(output))
    _check_packages(plot)
    if wav:
        from midinet.rendering.audio import find_player, write_wav

        find_player(soundfont)  # now, rather than when the music is there
    if html:
        from midinet.rendering.player_page import open_page_font

        open_page_font(soundfont)

    from midinet.model.music_transformer import open_model  # here, not above: it starts TensorFlow

    model = open_model(folder)
    start, options = np.empty(0, np.uint16), []
    if dataset is not None:
        start, song = open_song(dataset, song, model.codec, seed)
        options = ["-d", str(dataset), "--song", song, "--seed_length", str(seed_length)]
    elif primer is not None:
        start = open_primer(primer, model.codec)
        options = ["--primer", str(primer), "--seed_length", str(seed_length)]
    start = seed_cut.cut(start)
    if players is not None:
        rules = dataclasses.replace(rules, programs=_as_programs(*players, model.codec))
        settings = dataclasses.replace(settings, rules=rules)
        options += ["--instruments", str(instruments)]
    check_writable(Path(output))

    made, interrupted = _compose(model, [start] * num, limit, settings, progress)
    command = ["python", "generate.py", "-s", _as_typed(folder), *options]
    command += _as_options(settings) + ["--inclusive"] * inclusive
    suffixes = [".mid"] + [".png"] * plot + [".wav"] * wav + [".html"] * html
    paths = unused_paths(Path(output), num, suffixes)
    pieces = [to_notes(start, tokens, model.codec, rules, inclusive) for tokens in made]
    composer = describe_model(folder, folder == DEMO_MODEL, model.history_of_training)
    if progress:
        print(f"Composed by {composer}:")
    commands = []
    for index, (tokens, (notes, _), path) in enumerate(zip(made, pieces, paths, strict=True)):
        amount = _Limit(max(1, len(tokens)), None) if interrupted else limit
        last = [*amount.as_options(), "--seed", str(seed + index)]
        commands.append(shlex.join([*command, *last]))
        write_midi(notes, path, commands[-1], seed)
        if progress:
            print(f"{path}: {_describe(notes)}")
    # Only now, so that trouble with them, or Ctrl-C, costs no music.
    seed_name = primer or song or ""
    for (notes, seed_end_ms), path in zip(pieces, paths, strict=True):
        if plot:
            _draw(notes, path, seed_name, seed_end_ms)
    if html:
        facts = page_facts(composer, seed_name, settings, instruments)
        write_page(pieces, paths, commands, facts, seed, soundfont)
    for path in paths:
        if wav:
            write_wav(path, path.with_suffix(".wav"), soundfont)
    if progress:
        print(how_to_listen(paths, html, wav))
    return paths


def find_model(folder: str | Path | None) -> Path:
    """The folder of the model to use: the one named, else midinet_model, else the demo model.

    Raises:
        ModelError: none was named, and there is none; or what was named is something else.
    """
    if folder is not None:
        # TensorFlow, which takes seconds to start, finds out about the others.
        if kind_of(Path(folder)) not in (Kind.MODEL, Kind.OTHER):
            raise no_model(Path(folder))
        return Path(folder)
    for candidate in (DEFAULT_MODEL, DEMO_MODEL):
        if (candidate / "parameters.json").is_file():
            return candidate
    raise ModelError(
        f"there is no model yet (none in {DEFAULT_MODEL}, and no demo model): "
        f"train one with train.py -s {DEFAULT_MODEL}, or name one with -s"
    )


def to_notes(
    seed: np.ndarray, made: np.ndarray, codec: CodecSettings, rules: GrammarRules, inclusive: bool
) -> tuple[Notes, float | None]:
    """The music of a piece.

    What sounds when the piece is cut rings on for half a second, but no longer than notes may.
    Without its seed a piece begins where the seed ends, with the notes that the seed left sounding.

    Returns:
        Its notes, and where its seed ends in milliseconds if it is included.
    """
    ring = np.array([TIME_SHIFT.first + _RING_MS // STEP_MS - 1])
    piece = up_to_last_event(np.concatenate([seed, made]))
    tokens = np.concatenate([piece, ring])
    notes = tokens_to_notes(tokens, codec.drum_program, 0 if inclusive else len(seed))
    seed_ms = float(time_ms(seed).max(initial=0))
    cut_ms = float(time_ms(piece).max(initial=0)) - (0 if inclusive else seed_ms)
    end_ms = np.minimum(notes.end_ms, np.maximum(notes.start_ms + rules.max_note_ms, cut_ms))
    notes = dataclasses.replace(notes, end_ms=end_ms)
    return notes, seed_ms if inclusive and len(seed) else None


@dataclasses.dataclass(frozen=True)
class _Limit:
    """How much to compose: some tokens, or as many as some time of music takes."""

    tokens: int
    seconds: float | None

    @classmethod
    def checked(cls, length: int, seconds: float | None) -> _Limit:
        if length < 1:
            raise OptionError(f"length is {length}: it must be at least 1 token")
        if seconds is None:
            return cls(length, None)
        if not 0 < seconds <= _LONGEST_S:
            raise OptionError(f"seconds is {seconds:g}: it must be above 0 and at most a day")
        return cls(int(seconds * _MOST_TOKENS_A_SECOND) + 1, seconds)

    def as_options(self) -> list[str]:
        return (
            ["-l", str(self.tokens)] if self.seconds is None else ["--seconds", str(self.seconds)]
        )

    def is_reached(self, heard_s: np.ndarray, has_ended: np.ndarray) -> bool:
        """Whether all pieces have ended or are long enough; tokens are counted elsewhere."""
        return self.seconds is not None and bool((has_ended | (heard_s >= self.seconds)).all())

    def cut(self, tokens: np.ndarray) -> np.ndarray:
        return tokens if self.seconds is None else tokens[time_ms(tokens) < self.seconds * 1000]


def _compose(
    model: MusicTransformer,
    seeds: list[np.ndarray],
    limit: _Limit,
    settings: SamplingSettings,
    progress: bool,
) -> tuple[list[np.ndarray], bool]:
    """The new tokens of each piece, until all have ended or are long enough, or Ctrl-C.

    Returns:
        The tokens, and whether Ctrl-C came.
    """
    from tqdm import tqdm

    from midinet.backend import tf
    from midinet.generation.sampling import stream, trim_at_pad

    total = limit.tokens * len(seeds) if limit.seconds is None else None
    of_how_much = "" if limit.seconds is None else f" of {limit.seconds:g}"
    bar = tqdm(total=total, unit=" tokens", disable=not progress)
    made = np.empty((len(seeds), 0), np.uint16)
    interrupted = False
    try:
        with bar:
            for part in stream(model, seeds, limit.tokens, settings=settings):
                made = np.concatenate([made, part], axis=1)
                heard_s = time_ms(made)[:, -1] / 1000
                has_ended = made[:, -1] == PAD
                shown_s = heard_s.max() if has_ended.all() else heard_s[~has_ended].min()
                bar.set_postfix_str(f"{shown_s:.0f}{of_how_much} s of music", refresh=False)
                bar.update(part.size)
                if limit.is_reached(heard_s, has_ended):
                    break
    except tf.errors.ResourceExhaustedError as error:
        raise OptionError(
            f"out of memory composing {len(seeds)} at once: take fewer (num), or a smaller model"
        ) from error
    except KeyboardInterrupt:
        if not made.size:
            raise
        interrupted = True
        print("midinet: interrupted, writing what there is", file=sys.stderr)
    return [limit.cut(trim_at_pad(piece)) for piece in made], interrupted


def _as_programs(programs: list[int], percussion: bool, codec: CodecSettings) -> tuple[int, ...]:
    """Instruments as the codec writes them: percussion takes a program, whose own moves on."""
    drums = codec.drum_program
    if drums is None:
        if not programs:
            raise OptionError("instruments: this model knows no percussion, so name others too")
        return tuple(programs)
    substitute = melodic_substitute(drums)
    melodic = {substitute if program == drums else program for program in programs}
    return tuple(sorted(melodic | ({drums} if percussion else set())))


def _as_typed(folder: Path) -> str:
    """A model's folder as a command in the clone names it: no home folder goes into the music."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _as_options(settings: SamplingSettings) -> list[str]:
    rules = settings.rules or GrammarRules()
    options: list[object] = ["-k", settings.top_k]
    options += ["--temperature", settings.temperature, "--top_p", settings.top_p]
    options += ["--max_silence", rules.max_silence_ms / 1000]
    options += ["--max_note", rules.max_note_ms / 1000]
    return [str(option) for option in options] + ["--full_length"] * (not rules.may_end)


def _to_ms(name: str, seconds: float) -> int:
    if not math.isfinite(seconds):
        raise OptionError(f"{name} is {seconds:g}: it must be a number of seconds")
    return round(seconds * 1000)


def _check_packages(plot: bool) -> None:
    """Fails over a missing package now rather than when the music is there."""
    import midinet.midi.writer

    if plot:
        import midinet.rendering.piano_roll  # noqa: F401


def _draw(notes: Notes, path: Path, seed_name: str | Path, seed_end_ms: float | None) -> None:
    from midinet.rendering.piano_roll import piano_roll

    title = title_of(path, seed_name)
    piano_roll(notes, path.with_suffix(".png"), title=title, seed_end_ms=seed_end_ms)


def _describe(notes: Notes) -> str:
    minutes, seconds = divmod(round(notes.duration_ms / 1000), 60)
    players = len(np.unique(notes.program[~notes.is_drum])) + bool(notes.is_drum.any())
    amounts = ((len(notes), "note"), (players, "instrument"))
    counts = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in amounts)
    return f"{minutes}:{seconds:02d} of music, {counts}"
