"""MIDI files -> WAV files, through the FluidSynth program and a SoundFont."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from midinet.errors import AudioError, OptionError

LEAST_SAMPLE_RATE, MOST_SAMPLE_RATE = 8000, 96000  # what FluidSynth can do, in Hz
SOUNDFONT_VARIABLE = "SOUNDFONT"
TIMEOUT_S = 900  # FluidSynth renders some 25 times faster than the music lasts

# Rendered softly, as dense music would clip at FluidSynth's usual 0.2, then brought to one peak.
# In 32 bits: in 16 a soft piano has 50 levels left, and what is heard once it is loud is their
# noise.
_RENDER_GAIN = 0.08
_PEAK = 29000  # 1 dB below the most that 16 bits hold
_MOST_AMPLIFICATION = 3000  # silence must not become noise: FluidSynth's is 1/1000 of 16 bits' step
_RENDERED_TO_16_BITS = 1 / 65536
_BLOCK_FRAMES = 1 << 20

_SOUNDFONT_FOLDERS = (
    "/usr/share/sounds/sf2",  # Debian, Ubuntu, Colab
    "/usr/share/sounds/sf3",
    "/usr/share/soundfonts",  # Fedora, Arch, openSUSE
    "/usr/local/share/soundfonts",
    "/usr/local/share/sounds/sf2",
    "~/.local/share/soundfonts",
    "~/.local/share/sounds/sf2",
    "~/soundfonts",
    "~/Library/Audio/Sounds/Banks",  # macOS
    "/Library/Audio/Sounds/Banks",
    "/opt/homebrew/share/soundfonts",  # Homebrew, on Apple and on Intel chips
    "/opt/homebrew/share/fluid-synth/sf2",
    "/usr/local/share/fluid-synth/sf2",
    "%ProgramData%/soundfonts",  # Windows
    "C:/soundfonts",
)
# The best first; a folder may also hold fonts with a few instruments only.
_KNOWN_SOUNDFONTS = ("fluidr3_gm", "generaluser", "default", "timgm6mb", "")
_SOUNDFONT_SUFFIXES = (".sf2", ".sf3")
_INSTALL_PROGRAM = (
    "install it (Debian, Ubuntu: sudo apt install fluidsynth fluid-soundfont-gm; "
    "Colab: !apt-get install -y fluidsynth fluid-soundfont-gm; macOS: brew install fluid-synth; "
    "Windows: choco install fluidsynth)"
)
_INSTALL_SOUNDFONT = (
    "install one (Debian, Ubuntu: sudo apt install fluid-soundfont-gm; "
    "Colab: !apt-get install -y fluid-soundfont-gm; macOS, Windows: download a General MIDI "
    f".sf2 file), name one with --soundfont, or set {SOUNDFONT_VARIABLE} to its path"
)


def write_wav(
    midi_path: str | Path,
    wav_path: str | Path,
    soundfont: str | Path | None = None,
    sample_rate: int = 44100,
) -> Path:
    """Plays a MIDI file into a WAV file, which appears only when it is complete.

    The WAV is 16 bits, stereo, and as loud as it can be without clipping.

    Args:
        midi_path: the music.
        wav_path: the file to write; an old one is replaced.
        soundfont: the SoundFont (.sf2 or .sf3); None takes the one of `find_soundfont`.
        sample_rate: in Hz, 8000 to 96000.

    Returns:
        The path of the WAV file.

    Raises:
        AudioError: there is no FluidSynth, no SoundFont, or FluidSynth failed.
        OptionError: the sample rate is impossible.
    """
    if not LEAST_SAMPLE_RATE <= sample_rate <= MOST_SAMPLE_RATE:
        raise OptionError(
            f"sample rate {sample_rate}: it must be {LEAST_SAMPLE_RATE} to {MOST_SAMPLE_RATE} Hz"
        )
    program, font = find_player(soundfont)
    midi_path, wav_path = Path(midi_path), Path(wav_path)
    if not midi_path.is_file():
        raise AudioError(f"{midi_path} is not there: no MIDI file to play")
    # Beside the target: renaming works within one disk only.
    with tempfile.TemporaryDirectory(prefix=".wav-", dir=wav_path.parent) as folder:
        rendered, finished = (Path(folder).resolve() / f"{name}.wav" for name in ("raw", "peak"))
        # Absolute paths: a name may begin with "-". The options must come before the files.
        command = [program, "-n", "-i", "-q", "-g", str(_RENDER_GAIN), "-r", str(sample_rate)]
        command += ["-T", "wav", "-O", "s32", "-F", str(rendered)]
        _run_fluidsynth([*command, str(font.resolve()), str(midi_path.resolve())], midi_path)
        try:
            _bring_to_peak(rendered, finished)
        except (FileNotFoundError, wave.Error, EOFError) as error:
            raise AudioError(f"{midi_path}: fluidsynth made no WAV file of it") from error
        finished.replace(wav_path)
    return wav_path


def find_player(soundfont: str | Path | None = None) -> tuple[str, Path]:
    """The FluidSynth program and the SoundFont to play with; None: that of `find_soundfont`.

    Raises:
        AudioError: one is missing, or the file is no SoundFont.
    """
    program = shutil.which("fluidsynth")
    if program is None:
        raise AudioError(f"the program fluidsynth is not installed: {_INSTALL_PROGRAM}")
    font = find_soundfont() if soundfont is None else Path(soundfont)
    # FluidSynth goes on with some font of its own when it can't read this one.
    _check_soundfont(font)
    return program, font


def find_soundfont() -> Path:
    """The SoundFont named by the environment variable SOUNDFONT, or the best in the usual places.

    Raises:
        AudioError: there is none; the message says how to install one.
    """
    named = os.environ.get(SOUNDFONT_VARIABLE)
    if named:
        return Path(named).expanduser()
    for folder in _SOUNDFONT_FOLDERS:
        path = Path(os.path.expandvars(folder)).expanduser()
        fonts = [font for font in _files(path) if font.suffix.lower() in _SOUNDFONT_SUFFIXES]
        for known in _KNOWN_SOUNDFONTS:
            for font in fonts:
                if font.name.lower().startswith(known):
                    return font
    raise AudioError(f"no SoundFont found: {_INSTALL_SOUNDFONT}")


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # the folder is not there, or not ours to read
        return []


def _check_soundfont(font: Path) -> None:
    try:
        with font.open("rb") as file:
            header = file.read(12)
    except OSError as error:
        raise AudioError(f"SoundFont {font} can't be read: {error.strerror or error}") from error
    if header[:4] != b"RIFF" or header[8:12] != b"sfbk":
        raise AudioError(f"{font} is not a SoundFont: name a .sf2 or .sf3 file")


def _run_fluidsynth(command: list[str], midi_path: Path) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{midi_path}: fluidsynth took over {TIMEOUT_S} s, given up") from error
    except OSError as error:
        raise AudioError(f"{command[0]} can't be run: {error.strerror or error}") from error
    said = done.stderr.decode(errors="replace").splitlines()
    # Most of its failures leave the exit status at 0, and a part of the WAV file.
    errors = [line for line in said if line.startswith("fluidsynth: error:")]
    if errors or done.returncode:
        reason = (errors or said or [f"exit status {done.returncode}"])[-1]
        reason = reason.removeprefix("fluidsynth: error:").strip()
        raise AudioError(f"{midi_path}: fluidsynth failed: {reason}")


def _bring_to_peak(source: Path, target: Path) -> None:
    with wave.open(str(source), "rb") as wav:
        parameters = wav.getparams()
        peak = max((int(np.abs(block).max()) for block in _blocks(wav)), default=0)
    factor = min(_PEAK / max(peak, 1), _MOST_AMPLIFICATION * _RENDERED_TO_16_BITS)
    with wave.open(str(source), "rb") as wav, wave.open(str(target), "wb") as louder:
        louder.setparams(parameters._replace(sampwidth=2))
        for block in _blocks(wav):
            louder.writeframes(np.rint(block * factor).astype("<i2").tobytes())


def _blocks(wav: wave.Wave_read) -> Iterator[np.ndarray]:
    """The samples in pieces: an hour of music is 1.2 GB. int64, as -2^31 has no opposite."""
    if wav.getsampwidth() != 4:
        raise wave.Error("not the 32 bits that were asked for")
    while frames := wav.readframes(_BLOCK_FRAMES):
        yield np.frombuffer(frames, "<i4").astype(np.int64)
