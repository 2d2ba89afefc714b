"""TensorFlow and Keras, imported in one place so that they start the same way everywhere."""

from __future__ import annotations

import os

# Keras chooses its backend once, at import, and would follow a user's keras.json.
os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow's start-up notices would bury the one line that matters.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

__all__ = ["keras", "tf"]
