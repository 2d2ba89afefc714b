"""Finds songs that share most of their music, in time linear in the number of songs.

A song becomes a set of short melodic phrases: for each instrument, intervals between successive
notes and rough ratios of the times between them. Neither transposition nor a steady change of
tempo changes them. MinHash sums such a set up in a signature of 256 bytes: the share of equal
entries of two signatures estimates the share of phrases (Jaccard similarity) that two songs have
in common. Locality-sensitive hashing finds the pairs that are worth comparing: signatures are cut
into bands, and only songs that agree in a whole band are compared. The pairs that are similar
enough form families.

Sources: Broder 1997 (MinHash); Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets",
chapter 3 (banding); Li, Owen and Zhang 2012 and Shrivastava and Li 2014 (one permutation,
densified by rotation).
"""

from __future__ import annotations

import numpy as np

from midinet.midi.notes import Notes

SIGNATURE_SIZE = 128  # entries
SIGNATURE_TYPE = np.dtype("<u2")
MIN_SIMILARITY = 0.15  # of near copies: the share of phrases in common, by the signatures

_PHRASE_NOTES = 5
_MIN_PHRASES = 16  # songs of fewer give no reliable estimate
_COUNT_POWER = 0.75  # how much a phrase counts that is repeated; see `_weighted_phrases`
_CHORD_MS = 20.0  # notes of an instrument that begin so close together are one chord
# Ratios of successive times between onsets: much shorter, shorter, equal, longer, much longer.
_RATIO_EDGES = (1 / 2.5, 1 / 1.25, 1.25, 2.5)

_BAND_ROWS = 2
_NEIGHBOURS = 2  # to compare with, per song and band
_CHUNK_PAIRS = 1 << 16  # compared at a time, so that memory stays small
# Two families become one only if their leaders have so much in common. This keeps chains
# (a resembles b, b resembles c, ...) from tying everything together.
_MIN_LEADER_SIMILARITY = 0.08

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio


def signature(notes: Notes) -> np.ndarray:
    """Sums up the phrases of a song.

    Args:
        notes: the notes of a song; percussion is ignored.

    Returns:
        `(SIGNATURE_SIZE,)` of SIGNATURE_TYPE; all zeros if the song has too few phrases to be
        compared.
    """
    phrases = _weighted_phrases(_phrases(notes))
    result = np.zeros(SIGNATURE_SIZE, SIGNATURE_TYPE)
    if len(phrases) < _MIN_PHRASES:
        return result
    # The highest bits choose an entry, which keeps the smallest of the values that fall into it.
    values = np.sort(_mix(phrases))
    entry = (values >> np.uint64(57)).astype(np.int64)
    first = np.flatnonzero(np.diff(entry, prepend=-1))
    filled = entry[first]
    # An empty entry borrows from the next filled one; how far away that is becomes part of it.
    source = np.searchsorted(filled, np.arange(SIGNATURE_SIZE)) % len(filled)
    distance = (filled[source] - np.arange(SIGNATURE_SIZE)) % SIGNATURE_SIZE
    smallest = _mix(values[first])[source] + distance.astype(np.uint64) * _MULTIPLIER
    result[:] = smallest >> np.uint64(48)
    result[0] |= not result.any()  # all zeros has another meaning
    return result


def _phrases(notes: Notes) -> np.ndarray:
    """Hashes every phrase of _PHRASE_NOTES successive notes of an instrument; `(P,)` uint64.

    Phrases of fewer than three different intervals are left out: drones, trills, scales and
    repeated notes are in all music.
    """
    melodic = np.flatnonzero(~notes.is_drum)
    if len(melodic) < _PHRASE_NOTES:
        return np.empty(0, np.uint64)
    # Notes are ordered by onset already, and 8-bit numbers are sorted by radix.
    order = melodic[np.argsort(notes.program[melodic], kind="stable")]
    start, program = notes.start_ms[order], notes.program[order]
    pitch = notes.pitch[order].astype(np.int16)
    # Of each chord only the highest note counts.
    is_next = (np.diff(start) > _CHORD_MS) | (program[1:] != program[:-1])
    first = np.append(0, np.flatnonzero(is_next) + 1)
    count = len(first) - _PHRASE_NOTES + 1
    if count < 1:
        return np.empty(0, np.uint64)
    pitch = np.maximum.reduceat(pitch, first)
    start, program = start[first], program[first]

    intervals = np.diff(pitch)  # -127..127
    gaps = np.diff(start)
    rhythm = np.zeros(len(intervals), np.uint8)
    for ratio in _RATIO_EDGES:
        rhythm[1:] += gaps[1:] > ratio * gaps[:-1]
    intervals_and_rhythm = (intervals.astype(np.uint8).astype(np.uint64) << np.uint64(3)) | rhythm
    hashes = intervals_and_rhythm[:count] >> np.uint64(3)
    for step in range(1, _PHRASE_NOTES - 1):
        hashes *= _MULTIPLIER
        hashes += intervals_and_rhythm[step : count + step]
    # Of four intervals three are different exactly if at most one pair of them is equal.
    equal_pairs = np.zeros(count, np.uint8)
    for distance in range(1, _PHRASE_NOTES - 1):
        is_equal = intervals[distance:] == intervals[:-distance]
        for step in range(_PHRASE_NOTES - 1 - distance):
            equal_pairs += is_equal[step : count + step]
    has_one_instrument = program[_PHRASE_NOTES - 1 :] == program[:count]
    phrases: np.ndarray = hashes[has_one_instrument & (equal_pairs <= 1)]
    return phrases


def _weighted_phrases(phrases: np.ndarray) -> np.ndarray:
    """Replaces repeated phrases by numbered ones, so that a set can hold them; `(W,)` uint64.

    A phrase that comes n times becomes n^0.75 numbered ones: music that is repeated counts more
    than a single note that was changed, but a riff is not all there is to a song.
    """
    if not len(phrases):
        return phrases
    values, counts = np.unique(phrases, return_counts=True)
    copies = np.ceil(counts**_COUNT_POWER).astype(np.int64)
    number = np.arange(copies.sum()) - np.repeat(np.cumsum(copies) - copies, copies)
    numbered: np.ndarray = np.repeat(values, copies) + number.astype(np.uint64) * _MULTIPLIER
    return numbered


def _mix(values: np.ndarray) -> np.ndarray:
    """Hashes 64-bit numbers (the finaliser of MurmurHash3, which is public domain)."""
    values = values ^ (values >> np.uint64(33))
    values = values * np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


def similar_pairs(
    signatures: np.ndarray, min_similarity: float = MIN_SIMILARITY
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pairs of songs that have much music in common.

    Args:
        signatures: `(songs, SIGNATURE_SIZE)`, from `signature`.
        min_similarity: share of equal entries from which a pair counts.

    Returns:
        The pairs, `(pairs, 2)` int64, the smaller index first, ascending; and the similarity of
        each, `(pairs,)` float64.
    """
    songs = np.flatnonzero(signatures.any(axis=1))
    candidates = np.empty(0, np.int64)
    bands = np.ascontiguousarray(signatures[songs]).view(f"<u{2 * _BAND_ROWS}")
    for band in range(bands.shape[1]):
        # Songs that agree in the next band as well come to lie side by side.
        order = np.lexsort((bands[:, (band + 1) % bands.shape[1]], bands[:, band]))
        key, song = bands[order, band], songs[order]
        for distance in range(1, _NEIGHBOURS + 1):
            equal = key[distance:] == key[:-distance]
            one, other = song[distance:][equal], song[:-distance][equal]
            found = np.minimum(one, other) * len(signatures) + np.maximum(one, other)
            candidates = np.append(candidates, found)
        if len(candidates) > max(_CHUNK_PAIRS, 8 * len(songs)):
            candidates = _checked(signatures, candidates, min_similarity)
    candidates = _checked(signatures, candidates, min_similarity)
    pairs = np.stack(np.divmod(candidates, max(1, len(signatures))), axis=1)
    return pairs, similarity(signatures[pairs[:, 0]], signatures[pairs[:, 1]])


def _checked(signatures: np.ndarray, candidates: np.ndarray, minimum: float) -> np.ndarray:
    """Keeps the candidates that are similar enough, each once, ascending."""
    candidates = np.unique(candidates)
    kept = [np.empty(0, np.int64)]
    for first in range(0, len(candidates), _CHUNK_PAIRS):
        chunk = candidates[first : first + _CHUNK_PAIRS]
        one, other = np.divmod(chunk, len(signatures))
        kept.append(chunk[similarity(signatures[one], signatures[other]) >= minimum])
    return np.concatenate(kept)


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Estimates how much music songs share, from 0 to 1; signatures `(..., SIGNATURE_SIZE)`."""
    shared: np.ndarray = np.count_nonzero(one == other, axis=-1) / SIGNATURE_SIZE
    return shared


def find_families(signatures: np.ndarray) -> np.ndarray:
    """Groups songs into families of near copies.

    Args:
        signatures: `(songs, SIGNATURE_SIZE)`, from `signature`.

    Returns:
        `(songs,)` int64: for each song the index of the first song of its family, which is its
        own if it has no near copies.
    """
    leader = np.arange(len(signatures))
    size = np.ones(len(signatures), np.int64)

    def find(song: int) -> int:
        while leader[song] != song:
            leader[song] = leader[leader[song]]
            song = int(leader[song])
        return song

    pairs, shares = similar_pairs(signatures)
    for song, copy in pairs[np.argsort(-shares, kind="stable")].tolist():
        one, other = find(song), find(copy)
        if one == other:
            continue
        if similarity(signatures[one], signatures[other]) < _MIN_LEADER_SIMILARITY:
            continue
        # The larger family keeps its leader; of equal ones the first.
        if (size[other], -other) > (size[one], -one):
            one, other = other, one
        leader[other] = one
        size[one] += size[other]
    roots = np.array([find(song) for song in range(len(leader))], np.int64)
    _, first, family = np.unique(roots, return_index=True, return_inverse=True)
    return first[family]
