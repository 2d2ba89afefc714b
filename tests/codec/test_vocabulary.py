"""The numbers that every model trained so far depends on."""

import numpy as np
import pytest

from midinet.codec import vocabulary
from midinet.codec.vocabulary import NOTE_OFF, NOTE_ON, PAD, PROGRAM, TIME_SHIFT, VELOCITY


@pytest.mark.parametrize(
    ("token_range", "first", "last"),
    [
        (NOTE_ON, 0, 127),
        (NOTE_OFF, 128, 255),
        (VELOCITY, 256, 287),
        (TIME_SHIFT, 288, 387),
        (PROGRAM, 388, 515),
    ],
)
def test_ranges(token_range, first, last):
    held = np.flatnonzero(token_range.holds(np.arange(-5, 600))) - 5
    assert held.tolist() == list(range(first, last + 1))


def test_units():
    assert (PAD, vocabulary.VOCAB_SIZE) == (516, 517)
    assert (vocabulary.STEP_MS, vocabulary.VELOCITY_STEP) == (10, 4)
    assert vocabulary.DRUM_PROGRAM == 117
