"""Composing music files: a model and a seed in; MIDI files, pictures and sound out.

TensorFlow starts only when every argument has been checked.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np

from midinet.codec.settings import CodecSettings
from midinet.data.habits import Habits
from midinet.errors import ModelError
from midinet.folders import Kind, kind_of, no_model
from midinet.generation.commands import as_typed
from midinet.generation.listening import (
    describe_model,
    how_to_listen,
    page_facts,
    title_of,
    write_page,
)
from midinet.generation.outputs import check_output, check_writable, unused_paths, write_midi
from midinet.generation.pieces import Piece
from midinet.generation.prompts import DEFAULT_SEED_LENGTH, Prompt, open_prompt
from midinet.generation.request import Request
from midinet.generation.tempo import final_bpm
from midinet.midi.notes import Notes

DEFAULT_MODEL = Path("midinet_model")
DEMO_MODEL = Path(__file__).parents[1] / "demo"


def generate(  # noqa: PLR0913  # a parameter for each option of the script
    length: int | None = None,
    top_k: int | None = None,
    save_directory: str | Path | None = None,
    dataset: str | Path | None = None,
    inclusive: bool = False,
    *,
    primer: str | Path | None = None,
    song: str | None = None,
    accompany: str | Path | None = None,
    keep: str | None = None,
    seed_length: int | str = DEFAULT_SEED_LENGTH,
    seconds: float | None = None,
    full_length: bool = False,
    temperature: float | None = None,
    top_p: float | None = None,
    repetition: float | None = None,
    seed: int | None = None,
    num: int = 1,
    instruments: str | None = None,
    max_instruments: int | None = None,
    max_silence: float = 3.0,
    max_note: float | None = None,
    bpm: float | str | None = None,
    output: str | Path = "output",
    plot: bool = False,
    wav: bool = False,
    mp3: bool = False,
    html: bool = False,
    soundfont: str | Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Composes music and writes it as MIDI files.

    Ctrl-C stops composing; what there is by then is written.

    Args:
        length: the most tokens to compose for a piece. None: 2500, or as many as it takes to
            accompany a song.
        top_k: choose each token among this many likeliest. None, as for temperature, top_p and
            repetition: what suits the model; see `midinet.generation.settings.default_freedom`.
        save_directory: the model's folder; None: midinet_model if there is one, else the demo.
        dataset: a data set; the piece goes on from one of its songs.
        inclusive: whether the files begin with the seed.
        primer: a MIDI file to go on from.
        song: which song of the data set, by its name or a part of it; None: a random one.
        accompany: a MIDI file whose instruments are kept, each note of them, while the model
            composes the others, from the first note to the last kept one; `seconds` takes only the
            beginning of the file.
        keep: the instruments to keep of it: names or numbers with commas between; None: all, so
            that others join them.
        seed_length: how much of the song or the primer to go on from: tokens, or seconds as in
            "10s".
        seconds: compose so much music, about, instead of `length` tokens.
        full_length: continue where the model would end the piece.
        temperature: above 1 more surprising, below 1 more predictable.
        top_p: choose among the likeliest tokens that together have this probability.
        repetition: how strongly bars return, for models that know the meter: 0 as the model says,
            1 more like real music. Of an accompaniment only the rhythm returns.
        seed: of the random numbers; piece i of several uses seed + i. None: a random one.
        num: pieces to compose at once.
        instruments: the only ones that may play, beside kept ones: names or numbers with commas
            between.
        max_instruments: how many different ones may play, beside kept ones. None: those of
            `instruments`, if it is given; else as many as the song has that is continued, and as
            many as the accompanied one has beside the kept ones, or four if it has fewer, and
            six from nothing if the model hears the state of the music.
        max_silence: longest silence, in seconds.
        max_note: longest note, in seconds; None: as long as 98 of 100 notes of the instrument were
            in training, 20 seconds at most.
        bpm: the tempo to compose to, in quarter notes per minute, which the file then says; "none"
            for music without a beat. None: a song's or a primer's own tempo, if its notes keep to
            its beats; for a piece from nothing the tempo of a random training song.
        output: a folder, in which files are named by date and time, or the name of a .mid file.
            Nothing is ever overwritten.
        plot: whether to draw a piano roll beside each file.
        wav: whether to play each file into a WAV file beside it.
        mp3: whether to play each into an MP3 file, which needs the package soundfile.
        html: whether to write a page that plays all pieces in a browser, beside the first file.
        soundfont: the SoundFont to play with; None: one found in the usual places for `wav`
            and `mp3`, and the one that comes with pretty_midi for `html`.
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
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    request = Request(**locals())  # its fields are the parameters
    folder = find_model(save_directory)
    check_output(Path(output))
    open_prompt(request, CodecSettings())  # finds mistakes; the codec of the model is not known yet
    _check_packages(request)

    # Here, not above: these start TensorFlow.
    from midinet.generation.composing import compose_pieces
    from midinet.model.music_transformer import open_model

    model = open_model(folder)
    prompt = open_prompt(request, model.codec)
    habits = Habits.of_history(model.history_of_training)
    settings = request.settings_for(model.codec, prompt, model.hears_state, habits)
    check_writable(Path(output))
    pieces = compose_pieces(model, folder, prompt, settings, request)
    composer = describe_model(folder, folder == DEMO_MODEL, model.history_of_training)
    suffixes = [".mid"] + [".png"] * plot + [".html"] * html + request.sounds
    paths = unused_paths(Path(output), num, suffixes)
    if progress:
        print(f"Composed by {composer}:")
    for piece, path in zip(pieces, paths, strict=True):
        write_midi(piece.notes, path, piece.command, seed)
        if progress:
            print(f"{path}: {_describe(piece.notes)}")
    # Only now, so that trouble with them, or Ctrl-C, costs no music.
    if plot:
        _draw(pieces, paths, prompt)
    if html:
        facts = page_facts(composer, prompt, settings, instruments)
        write_page(pieces, paths, prompt, facts, soundfont)
    for suffix in request.sounds:
        _play(paths, suffix, soundfont)
    if progress:
        print(how_to_listen(paths, html, request.sounds))
    return paths


def find_model(folder: str | Path | None) -> Path:
    """The folder of the model to use: the one named, else midinet_model, else the demo model.

    Raises:
        ModelError: none was named, and there is none; or what was named is something else.
    """
    is_default = folder is None
    if is_default and kind_of(DEFAULT_MODEL) not in (Kind.MISSING, Kind.EMPTY):
        folder = DEFAULT_MODEL
    if folder is not None:
        if kind_of(Path(folder)) not in (Kind.MODEL, Kind.RELEASED_MODEL):
            demo = f"; -s {as_typed(DEMO_MODEL)} takes the demo model" if is_default else ""
            raise ModelError(f"{no_model(Path(folder))}{demo}")
        return Path(folder)
    if kind_of(DEMO_MODEL) == Kind.MODEL:
        return DEMO_MODEL
    raise ModelError(
        f"there is no model yet (none in {DEFAULT_MODEL}, and no demo model): "
        f"train one with train.py -s {DEFAULT_MODEL}, or name one with -s"
    )


def _check_packages(request: Request) -> None:
    """Fails over a missing package or SoundFont now rather than when the music is there."""
    import midinet.midi.writer

    if request.plot:
        import midinet.rendering.piano_roll  # noqa: F401
    for suffix in request.sounds:
        from midinet.rendering.audio import find_player

        find_player(request.soundfont, suffix)
    if request.html:
        from midinet.rendering.player_page import open_page_font

        open_page_font(request.soundfont)


def _draw(pieces: list[Piece], paths: list[Path], prompt: Prompt) -> None:
    from midinet.rendering.piano_roll import piano_roll

    for piece, path in zip(pieces, paths, strict=True):
        piano_roll(
            piece.notes,
            path.with_suffix(".png"),
            title=title_of(path, prompt),
            seed_end_ms=piece.seed_end_ms,
            kept=[] if prompt.kept is None else prompt.kept.names,
        )


def _play(paths: list[Path], suffix: str, soundfont: str | Path | None) -> None:
    from midinet.rendering.audio import write_audio

    for path in paths:
        write_audio(path, path.with_suffix(suffix), soundfont)


def _describe(notes: Notes) -> str:
    minutes, seconds = divmod(round(notes.duration_ms / 1000), 60)
    players = len(np.unique(notes.program[~notes.is_drum])) + bool(notes.is_drum.any())
    amounts = ((len(notes), "note"), (players, "instrument"))
    counts = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in amounts)
    tempo = "" if notes.tempo_map is None else f", {final_bpm(notes.tempo_map):g} bpm"
    return f"{minutes}:{seconds:02d} of music, {counts}{tempo}"
