"""What was played in the last bars, kept so that one token of each piece looks it up at once.

The meter (see model/meter.py) asks what began half a bar to eight bars before. In a list of all
onsets of a window every token would have to search thousands of entries. Here each tick has a place
in a ring that is longer than eight bars, which holds the notes that began at that tick as bits.

Axes: B pieces, R places of the ring, W words of 32 bits that hold a bit for each pitch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tensorflow.compiler.tf2xla.python import xla

from midinet.backend import tf
from midinet.codec.vocabulary import NOTE_ON, NUM_PITCHES, NUM_PROGRAMS
from midinet.model.meter import LAGS_TICKS, TICKS_PER_BAR, Lookup, Onsets
from midinet.model.music_state import NO_TICK, Features

_RING_TICKS = 512  # R; a power of two, so that the place of a tick is some of its bits
assert max(LAGS_TICKS) < _RING_TICKS
_WORD_BITS = 32
_WORDS = NUM_PITCHES // _WORD_BITS


class OnsetRing(NamedTuple):
    """The notes that began at the last ticks; a tick is at place `tick % R`.

    Attributes:
        ticks: `(B, R)` int32, of which tick a place holds the notes.
        notes: `(B, R, 128, W)` int32, by program: bit b of word w stands for pitch 32 w + b.
    """

    ticks: tf.Tensor
    notes: tf.Tensor


def ring_of(onsets: Onsets) -> OnsetRing:
    """Puts onsets, NumPy arrays `(B, C)` with the latest last, into a ring."""
    B = len(onsets.tick)
    ticks = np.full((B, _RING_TICKS), NO_TICK, np.int32)
    notes = np.zeros((B, _RING_TICKS, NUM_PROGRAMS, _WORDS), np.uint32)
    is_recent = onsets.tick > np.maximum(onsets.tick[:, -1:] - _RING_TICKS, NO_TICK)
    row = np.nonzero(is_recent)[0]
    tick, program, pitch = (field[is_recent] for field in onsets)
    place = tick % _RING_TICKS
    ticks[row, place] = tick
    bit = np.uint32(1) << (pitch % _WORD_BITS).astype(np.uint32)
    np.bitwise_or.at(notes, (row, place, program, pitch // _WORD_BITS), bit)
    return OnsetRing(tf.constant(ticks), tf.constant(notes.view(np.int32)))


def remember_onset(ring: OnsetRing, token: tf.Tensor, features: Features) -> OnsetRing:
    """The ring after one more token `(B,)` per piece, given the state after it.

    Only for code that XLA compiles, which then writes the ring in place.
    """
    tick, program = (tf.cast(x, tf.int32) for x in (features.tick, features.program))
    is_onset = (token < NOTE_ON.end) & (tick > NO_TICK)
    place = tick % _RING_TICKS
    held = tf.gather(ring.ticks, place, batch_dims=1)
    notes = tf.gather(ring.notes, place, batch_dims=1)  # (B, 128, W)
    is_program = tf.range(NUM_PROGRAMS) == program[:, None]
    is_word = tf.range(_WORDS) == (token // _WORD_BITS)[:, None]
    bit = tf.bitwise.left_shift(tf.ones_like(token), token % _WORD_BITS)
    new = tf.where(is_program[:, :, None] & is_word[:, None], bit[:, None, None], 0)
    new |= tf.where((held == tick)[:, None, None], notes, 0)
    ticks, all_notes = ring
    for b in range(token.shape[0]):
        row_ticks = tf.where(is_onset[b], tick[b], held[b])
        row_notes = tf.where(is_onset[b], new[b], notes[b])
        ticks = xla.dynamic_update_slice(ticks, row_ticks[None, None], [b, place[b]])
        all_notes = xla.dynamic_update_slice(all_notes, row_notes[None, None], [b, place[b], 0, 0])
    return OnsetRing(ticks, all_notes)


def lookup_in_ring(ring: OnsetRing) -> Lookup:
    """Looks up what was played."""
    B = ring.ticks.shape[0]

    def holds(tick: tf.Tensor) -> tf.Tensor:
        held = tf.gather(ring.ticks, tf.reshape(tick % _RING_TICKS, (B, -1)), batch_dims=1)
        return tf.reshape(held, tick.shape) == tick

    def had_onset(tick: tf.Tensor) -> tf.Tensor:
        return tf.cast(holds(tick[..., None] + tf.range(1, TICKS_PER_BAR + 1)), tf.float32)

    def began(tick: tf.Tensor, program: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        notes = tf.gather(ring.notes, tick % _RING_TICKS, batch_dims=1)  # (B, Q, L, 128, W)
        notes = tf.where(holds(tick)[..., None, None], notes, 0)
        words = tf.gather(notes, tf.broadcast_to(program[..., None], tick.shape), batch_dims=3)
        bits = tf.bitwise.right_shift(words[..., None], tf.range(_WORD_BITS)) & 1
        pitches = tf.reshape(bits, (*tick.shape, NUM_PITCHES))
        programs = tf.reduce_any(notes != 0, axis=-1)
        return tf.cast(pitches, tf.float32), tf.cast(programs, tf.float32)

    return Lookup(began, had_onset)
