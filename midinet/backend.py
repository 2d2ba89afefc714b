"""TensorFlow and Keras, imported in one place so that they start the same way everywhere."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from midinet.interrupts import ctrl_c_certain

# Keras chooses its backend once, at import, and would follow a user's keras.json.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Holds back what native code writes to stderr, and shows it if the block fails.

    Not where the reason is known: Ctrl-C, or a package that is not installed.

    TensorFlow greets every start with a page of notices that no log level silences, because its
    logger is not set up yet; they would bury the one line that matters.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except (KeyboardInterrupt, ModuleNotFoundError):
            raise
        except BaseException:
            notices.seek(0)
            os.write(kept, notices.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


with _hushed(), ctrl_c_certain():
    import keras
    import tensorflow as tf

    # The device list is made, and complained about, at its first use.
    tf.config.list_physical_devices()

__all__ = ["keras", "tf"]
