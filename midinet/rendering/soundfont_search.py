"""Which SoundFont plays the music: one that was named, one of the system's, or our own."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from midinet.errors import AudioError
from midinet.rendering.soundfont import find_bundled_soundfont, read_soundfont

SOUNDFONT_VARIABLE = "SOUNDFONT"

_FOLDERS = (
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
# The best first; a folder may hold several fonts.
_KNOWN_FONTS = ("fluidr3_gm", "generaluser", "default", "timgm6mb", "")
_log = logging.getLogger(__name__)


def find_soundfont(named: str | Path | None = None, compressed: bool = True) -> Path:
    """Finds the SoundFont to play with.

    It is the first of these: the one named, the one in the environment variable SOUNDFONT, the
    best General MIDI font in the folders where systems keep them, the one of pretty_midi. A font
    in those folders that is not General MIDI or can't be read is passed over with a warning.

    Args:
        named: what the user asked for.
        compressed: whether a font of the system may be compressed (.sf3).

    Raises:
        AudioError: none is there; the message says what to install.
    """
    named = named or os.environ.get(SOUNDFONT_VARIABLE)
    if named:
        return Path(named).expanduser()
    for folder in _FOLDERS:
        fonts = _fonts(Path(os.path.expandvars(folder)).expanduser())
        for known in _KNOWN_FONTS:
            for font in fonts:
                if font.name.lower().startswith(known) and _is_usable(font, compressed):
                    return font
    return find_bundled_soundfont()


def _fonts(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # the folder is missing or can't be read
        return []
    return [path for path in files if path.suffix.lower() in (".sf2", ".sf3")]


def _is_usable(path: Path, compressed: bool) -> bool:
    try:
        font = read_soundfont(path)
    except AudioError as error:
        _log.warning("passed over: %s", error)
        return False
    if font.is_compressed and not compressed:
        return False
    if not font.is_general_midi:
        _log.warning(
            "passed over: SoundFont %s is not General MIDI (program 0 is not a piano, or there is "
            "no percussion); --soundfont takes it nevertheless",
            path,
        )
        return False
    return True
