"""The exceptions of midinet, all of them subclasses of MidinetError."""

from __future__ import annotations


class MidinetError(Exception):
    """An error that the user can act on; its text names the cause, the value and the remedy."""


class MidiError(MidinetError):
    """Bytes that are not a MIDI file.

    Attributes:
        reason: what is wrong, in a few words.
        offset: the position in bytes at which reading stopped.
        path: the file, if the bytes came from one.
    """

    def __init__(self, reason: str, offset: int = 0, path: str | None = None):
        self.reason = reason
        self.offset = offset
        self.path = path
        where = f"{path}: " if path else ""
        super().__init__(f"{where}not a readable MIDI file: {reason} (at byte {offset})")


class CorpusError(MidinetError):
    """A folder of MIDI files or a data set that can't be used."""


class ParametersError(MidinetError):
    """A hyperparameter that is unknown, missing or impossible."""


class OptionError(MidinetError):
    """An argument of a function or an option of a script with an invalid value."""


class ModelError(MidinetError):
    """A model folder that can't be opened or written."""


class TrainingError(MidinetError):
    """Training that can't start, continue or be restored."""


class DownloadError(MidinetError):
    """A data set that could not be fetched."""


class ArchiveError(MidinetError):
    """An archive that can't be unpacked, or must not be."""


class AudioError(MidinetError):
    """Sound that could not be rendered: a SoundFont is missing or damaged, or FluidSynth failed."""
