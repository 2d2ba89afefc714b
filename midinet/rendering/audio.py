"""MIDI files -> WAV or MP3 files, by the FluidSynth program or by our own SoundFont player."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midinet.errors import AudioError, MidiError, OptionError
from midinet.midi.reader import read_midi
from midinet.rendering.mastering import import_soundfile, write_master
from midinet.rendering.soundfont import read_soundfont
from midinet.rendering.soundfont_search import find_soundfont
from midinet.rendering.synthesizer import render

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8000, 96000  # what FluidSynth can do, in Hz
FLUIDSYNTH_TIMEOUT_S = 900  # FluidSynth renders some 25 times faster than the music lasts
_MAX_MINUTES = 60  # of our own player, which holds the sound in memory: 21 MB per minute

# Dense music would clip at FluidSynth's usual 0.2. In 32 bits, because in 16 a soft piano has 50
# levels left, and once it is made loud their noise is heard.
_FLUIDSYNTH_GAIN = 0.08
_WAV_HEADER_BYTES = 44


class Player(NamedTuple):
    """What plays the music.

    Attributes:
        fluidsynth: the path of the FluidSynth program; None for our own player.
        soundfont: the SoundFont to play with.
    """

    fluidsynth: str | None
    soundfont: Path


def write_audio(
    midi_path: str | Path,
    path: str | Path,
    soundfont: str | Path | None = None,
    sample_rate: int = 44100,
) -> Path:
    """Plays a MIDI file into a WAV or MP3 file, which appears only when it is complete.

    FluidSynth plays where it is installed, else our own player does. The sound is stereo and ends
    when the last note has faded; see `write_master` for its loudness.

    Args:
        midi_path: the music.
        path: the file to write: MP3 if its name ends in .mp3, else WAV of 16 bits. An old one is
            replaced.
        soundfont: the SoundFont: .sf2, or .sf3 with FluidSynth; None takes that of
            `find_soundfont`.
        sample_rate: in Hz, 8000 to 96000.

    Returns:
        The path of the file.

    Raises:
        AudioError: the MIDI file or the SoundFont can't be used, FluidSynth failed, or the package
            that writes MP3 is missing.
        OptionError: the sample rate is impossible.

    Example:
        write_audio("song.mid", "song.wav")
    """
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise OptionError(
            f"sample rate {sample_rate}: it must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
        )
    midi_path, path = Path(midi_path), Path(path)
    player = find_player(soundfont, path.suffix)
    if not midi_path.is_file():
        raise AudioError(f"there is no MIDI file {midi_path} to play")
    # The folder is beside the target, because a file can be renamed within one disk only.
    with tempfile.TemporaryDirectory(prefix=".sound-", dir=path.parent) as folder:
        finished = Path(folder).resolve() / f"finished{path.suffix}"
        if player.fluidsynth is None:
            write_master(_render(midi_path, player, sample_rate).T, 1.0, finished, sample_rate)
        else:
            rendered = finished.with_name("rendered.wav")
            _run_fluidsynth(player, midi_path, rendered, sample_rate)
            sound = _open_rendered(rendered, midi_path)
            write_master(sound, 2.0**31, finished, sample_rate)
            del sound  # Windows can't delete a file that is mapped
        finished.replace(path)
    return path


def find_player(soundfont: str | Path | None = None, suffix: str = ".wav") -> Player:
    """Finds what plays the music, and checks that everything it needs can be used.

    Args:
        soundfont: a SoundFont; None takes that of `find_soundfont`.
        suffix: of the sound files that are to be written.

    Raises:
        AudioError: there is no SoundFont, or it can't be used; or the package that writes MP3 is
            missing.
    """
    if suffix.lower() == ".mp3":
        import_soundfile()
    program = shutil.which("fluidsynth")
    font = find_soundfont(soundfont, compressed=program is not None)
    if program is not None:
        # FluidSynth silently takes some font of its own when it can't read this one.
        _check_header(font)
    elif read_soundfont(font).is_compressed:
        raise AudioError(
            f"{font} is a compressed SoundFont, which needs the program fluidsynth: install it, "
            "or name a .sf2 file"
        )
    return Player(program, font)


def _check_header(font: Path) -> None:
    try:
        with font.open("rb") as file:
            header = file.read(12)
    except OSError as error:
        raise AudioError(f"SoundFont {font} can't be read: {error.strerror or error}") from error
    if header[:4] != b"RIFF" or header[8:12] != b"sfbk":
        raise AudioError(f"{font} is not a SoundFont: name a .sf2 or .sf3 file")


def _render(midi_path: Path, player: Player, sample_rate: int) -> np.ndarray:
    try:
        notes = read_midi(midi_path)
    except MidiError as error:
        raise AudioError(str(error)) from error
    if notes.duration_ms > _MAX_MINUTES * 60_000:
        raise AudioError(
            f"{midi_path} lasts {notes.duration_ms / 60_000:.0f} minutes: for music of over "
            f"{_MAX_MINUTES} minutes, install the program fluidsynth"
        )
    return render(notes, read_soundfont(player.soundfont), sample_rate)


def _run_fluidsynth(player: Player, midi_path: Path, wav_path: Path, sample_rate: int) -> None:
    assert player.fluidsynth is not None
    # Absolute paths, because a name may begin with "-". The options must come before the files.
    command = [player.fluidsynth, "-n", "-i", "-q", "-g", str(_FLUIDSYNTH_GAIN)]
    command += ["-r", str(sample_rate), "-T", "wav", "-O", "s32", "-F", str(wav_path)]
    command += [str(player.soundfont.resolve()), str(midi_path.resolve())]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FLUIDSYNTH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(
            f"{midi_path}: fluidsynth was stopped after {FLUIDSYNTH_TIMEOUT_S} s"
        ) from error
    except OSError as error:
        raise AudioError(f"{command[0]} can't be run: {error.strerror or error}") from error
    lines = done.stderr.decode(errors="replace").splitlines()
    # After most failures its exit status is 0, and part of the WAV file has been written.
    errors = [line for line in lines if line.startswith("fluidsynth: error:")]
    if errors or done.returncode:
        reason = (errors or lines or [f"exit status {done.returncode}"])[-1]
        reason = reason.removeprefix("fluidsynth: error:").strip()
        raise AudioError(f"{midi_path}: fluidsynth failed: {reason}")


def _open_rendered(wav_path: Path, midi_path: Path) -> np.ndarray:
    """Maps FluidSynth's sound from its file, `(frames, channels)` int32: an hour is 1.3 GB."""
    try:
        with wave.open(str(wav_path), "rb") as wav:
            frames, channels, width = wav.getnframes(), wav.getnchannels(), wav.getsampwidth()
        if width != 4:
            raise wave.Error("not the 32 bits that were asked for")
        return np.memmap(wav_path, "<i4", "r", _WAV_HEADER_BYTES, (frames, channels))
    except (OSError, wave.Error, EOFError, ValueError) as error:
        raise AudioError(f"{midi_path}: fluidsynth wrote no WAV file of it") from error
