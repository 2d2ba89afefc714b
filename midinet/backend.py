"""TensorFlow and Keras, imported in one place so that they start the same way everywhere."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

from midinet.interrupts import ensure_keyboard_interrupt

# Keras chooses its backend once, at import, and would follow a user's keras.json.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Else the first process takes all memory of a GPU, and nothing can be composed while a model
# trains.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr, and shows it only if the block fails.

    If the reason for the failure is known (Ctrl-C, or a package that is not installed), it is not
    shown either.

    TensorFlow writes a page of notices at every start, before its log level takes effect. They
    would hide the one line that matters.
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


with _stderr_held_back(), ensure_keyboard_interrupt():
    import keras
    import tensorflow as tf

    # The first use makes the device list and prints notices about it.
    tf.config.list_physical_devices()

# What XLA says when the CUDA tools that it needs are not installed.
_XLA_TOOLS = re.compile("libdevice|ptxas|nvlink|cuda_data_dir", re.IGNORECASE)


def warn_if_xla_lacks_tools(error: tf.errors.OpError, consequence: str) -> bool:
    """Whether XLA could not compile for a GPU because the CUDA tools are missing.

    This is a well-known trouble of TensorFlow when it is installed by pip. A warning then tells
    the consequence.
    """
    if not _XLA_TOOLS.search(error.message):
        return False
    reason = error.message.strip().splitlines()[0]
    warnings.warn(f"XLA can't compile for this GPU, so {consequence} ({reason})", stacklevel=3)
    return True


__all__ = ["keras", "tf", "warn_if_xla_lacks_tools"]
