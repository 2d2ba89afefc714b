"""midinet learns multi-instrument music from MIDI files and composes more of it.

The names below are the public interface. They are imported when first used, so that
`import midinet` is fast and TensorFlow is loaded only when something needs it.
"""

from __future__ import annotations

__version__ = "2.0.0"

# typing.TYPE_CHECKING would need an import, and Ctrl-C during this one shows a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from midinet.codec.decoding import decode
    from midinet.codec.encoding import encode
    from midinet.codec.settings import CodecSettings
    from midinet.data.corpus import Corpus, open_corpus
    from midinet.data.preprocess import preprocess
    from midinet.downloads.download import download
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
    from midinet.generation.generate import generate
    from midinet.midi.notes import Notes
    from midinet.midi.reader import read_midi
    from midinet.model.music_transformer import open_model
    from midinet.model.parameters import Parameters
    from midinet.training.train import train

# The module in which each public name is defined; a test compares it with __all__.
_HOME = {
    "codec.decoding": ("decode",),
    "codec.encoding": ("encode",),
    "codec.settings": ("CodecSettings",),
    "data.corpus": ("Corpus", "open_corpus"),
    "data.preprocess": ("preprocess",),
    "downloads.download": ("download",),
    "errors": (
        "ArchiveError",
        "AudioError",
        "CorpusError",
        "DownloadError",
        "MidiError",
        "MidinetError",
        "ModelError",
        "OptionError",
        "ParametersError",
        "TrainingError",
    ),
    "generation.generate": ("generate",),
    "midi.notes": ("Notes",),
    "midi.reader": ("read_midi",),
    "model.music_transformer": ("open_model",),
    "model.parameters": ("Parameters",),
    "training.train": ("train",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

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

    if name not in _MODULE_OF:
        raise AttributeError(f"module 'midinet' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"midinet.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
