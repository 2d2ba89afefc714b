"""midinet learns multi-instrument music from MIDI files and composes more of it.

The names below are the public interface. They are imported when first used, so that
`import midinet` costs nothing and TensorFlow starts only where it is needed.
"""

from __future__ import annotations

# Not that of typing: until the scripts' first import is done, Ctrl-C shows a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from midinet.codec import CodecSettings, encode
    from midinet.corpus import Corpus, open_corpus, preprocess
    from midinet.errors import (
        ArchiveError,
        AudioError,
        CorpusError,
        DownloadError,
        MidiError,
        MidinetError,
        ModelError,
        OptionError,
        ParametersError,
        TrainingError,
    )
    from midinet.fetching import download
    from midinet.generation import generate
    from midinet.midi_file import decode
    from midinet.model import open_model
    from midinet.parameters import Parameters
    from midinet.smf import Notes, read_midi
    from midinet.training import train

_HOME = {
    "download": "fetching",
    "preprocess": "corpus",
    "open_corpus": "corpus",
    "Corpus": "corpus",
    "train": "training",
    "generate": "generation",
    "open_model": "model",
    "Parameters": "parameters",
    "read_midi": "smf",
    "Notes": "smf",
    "encode": "codec",
    "decode": "midi_file",
    "CodecSettings": "codec",
    "MidinetError": "errors",
    "MidiError": "errors",
    "CorpusError": "errors",
    "ParametersError": "errors",
    "OptionError": "errors",
    "ModelError": "errors",
    "TrainingError": "errors",
    "DownloadError": "errors",
    "ArchiveError": "errors",
    "AudioError": "errors",
}

__all__ = [
    "ArchiveError",
    "AudioError",
    "CodecSettings",
    "Corpus",
    "CorpusError",
    "DownloadError",
    "MidiError",
    "MidinetError",
    "ModelError",
    "Notes",
    "OptionError",
    "Parameters",
    "ParametersError",
    "TrainingError",
    "decode",
    "download",
    "encode",
    "generate",
    "open_corpus",
    "open_model",
    "preprocess",
    "read_midi",
    "train",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOME:
        raise AttributeError(f"module 'midinet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"midinet.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
