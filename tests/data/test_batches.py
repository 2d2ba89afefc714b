"""Batches cover every token once, depend on (seed, epoch, index) alone, and resume anywhere."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midinet.codec.decoding import elapsed_steps, tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.restating import NOT_RESTATED
from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_OFF,
    NUM_PITCHES,
    PAD,
    PROGRAM,
    STEP_MS,
)
from midinet.data.batches import PAST_STEPS, Windows, num_batches
from midinet.data.pipeline import dataset
from midinet.data.song_notes import NotesCache, read_notes
from midinet.midi.tempo_map import TempoMap
from tests.data.music import FakeCorpus, make_corpus, make_notes
from tests.data.test_windows import silent_note_offs

CORPUS = make_corpus()
SONGS = range(len(CORPUS))


def one_note_at_a_time(seed):
    """A song in which restating never takes too many tokens."""
    notes = make_notes(seed, lengths_ms=(10,))
    return encode(notes[np.diff(notes.start_ms, prepend=-1) > 0])


SHORT = FakeCorpus([one_note_at_a_time(seed) for seed in range(3)])


def whole(windows):
    return windows.batch(0, len(windows))


def learned(batch):
    """The targets that count, in the order of rows."""
    return batch.targets[batch.weights == 1].tolist()


@settings(max_examples=20, deadline=None)
@given(
    sequence_length=st.integers(64, 400),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
    shuffle=st.booleans(),
)
def test_an_epoch_covers_every_token_and_every_end_once(sequence_length, seed, epoch, shuffle):
    windows = Windows(SHORT, range(3), sequence_length, seed=seed, epoch=epoch, shuffle=shuffle)
    expected = [token for index in range(3) for token in [*SHORT.song(index), PAD]]
    assert sorted(learned(whole(windows))) == sorted(expected)


def test_validation_windows_are_the_song_itself():
    for sequence_length in (64, 512, 4096):
        batch = whole(Windows(SHORT, range(3), sequence_length))
        expected = [token for index in range(3) for token in [*SHORT.song(index), PAD]]
        assert learned(batch) == expected


def test_where_too_much_sounds_to_restate_only_note_offs_are_lost():
    batch = whole(Windows(CORPUS, SONGS, 64))
    expected = np.array([token for song in map(CORPUS.song, SONGS) for token in [*song, PAD]])
    targets = np.array(learned(batch))
    for first, end in ((0, 128), (PAD, PAD + 1)):
        kept, there = ([t for t in x if first <= t < end] for x in (targets, expected))
        assert sorted(kept) == sorted(there)
    assert 0 < len(expected) - len(targets) < 0.1 * len(expected)


@pytest.mark.parametrize("sequence_length", [2, 3, 5, 8, 33])
def test_very_short_windows_work_too(sequence_length):
    for augment in (False, True):
        corpus = FakeCorpus([CORPUS.song(index)[:60] for index in range(2)])
        batch = whole(Windows(corpus, range(2), sequence_length, augment=augment, shuffle=True))
        assert batch.inputs.shape[1] == sequence_length
        assert (batch.targets[batch.weights == 1] == PAD).sum() == len(corpus)


@pytest.mark.parametrize("augment", [False, True])
def test_rows_are_inputs_and_targets_shifted_by_one(augment):
    for epoch in range(3):
        batch = whole(Windows(CORPUS, SONGS, 64, epoch=epoch, augment=augment, shuffle=True))
        counts = batch.weights == 1
        for inputs, targets, row in zip(batch.inputs, batch.targets, counts, strict=True):
            if not row.any():  # the mistakes at its beginning fill the window
                continue
            first, last = np.flatnonzero(row)[[0, -1]]
            assert row[first : last + 1].all()
            np.testing.assert_array_equal(inputs[1 : last + 1], targets[:last])
            assert (targets[last + 1 :] == PAD).all()
            assert not silent_note_offs(np.append(inputs[: last + 1], targets[last]))
        # A song begins after a PAD, without anything restated, and ends with one.
        is_first = batch.inputs[:, 0] == PAD
        assert is_first.sum() == len(CORPUS)
        assert (batch.start_steps[is_first] == 0).all()
        assert augment or counts[is_first, 0].all()
        assert ((batch.targets == PAD) & counts).sum() == len(CORPUS)


def test_restated_tokens_do_not_count_and_keep_their_onsets():
    batch = whole(Windows(CORPUS, SONGS, 128))
    restated = batch.restated_onset_steps != NOT_RESTATED
    assert restated.sum() > 20
    assert (batch.inputs[restated] < NOTE_OFF.first).all()
    assert (batch.restated_onset_steps[restated] <= batch.start_steps[restated.nonzero()[0]]).all()
    # The target before a restated token is that token.
    rows, columns = restated[:, 1:].nonzero()
    assert (batch.weights[rows, columns] == 0).all()


def test_augmented_windows_are_filled():
    windows = Windows(CORPUS, SONGS, 64, augment=True, shuffle=True)
    batch = whole(windows)
    is_inner = (batch.inputs[:, 0] != PAD) & ~((batch.targets == PAD) & (batch.weights == 1)).any(1)
    assert (batch.inputs[is_inner, -1] != PAD).all()


def test_a_song_has_no_window_more_than_it_needs():
    length = len(CORPUS.song(0))
    assert len(Windows(CORPUS, [0], length + 200)) == 1
    stride = 513 - 32  # 32 tokens of 512 are for restating
    assert len(Windows(CORPUS, SONGS, 512)) == sum(
        -(-(len(CORPUS.song(index)) + 1) // stride) for index in SONGS
    )


def test_the_beats_follow_the_tempo_map_and_the_stretching():
    corpus = make_corpus(tempo_map=TempoMap.constant(120))
    plain = whole(Windows(corpus, SONGS, 64))
    steps = plain.start_steps[:, None] + elapsed_steps(plain.inputs)
    is_token = plain.inputs != PAD
    np.testing.assert_allclose(plain.beats[is_token], steps[is_token] * STEP_MS / 500)
    augmented = whole(Windows(corpus, SONGS, 64, augment=True))
    steps = augmented.start_steps[:, None] + elapsed_steps(augmented.inputs)
    is_token = (augmented.inputs != PAD) & (steps > 100)
    factors = steps[is_token] * STEP_MS / 500 / augmented.beats[is_token]
    assert factors.min() >= 0.87
    assert factors.max() <= 1.13
    assert len(np.unique(factors.round(2))) > 10
    assert np.isnan(whole(Windows(CORPUS, SONGS, 64)).beats).all(), "no map, no metronome"
    corpus.grid_shares = [0.79] * len(corpus)
    assert np.isnan(whole(Windows(corpus, SONGS, 64)).beats).all(), "off its grid"


def test_a_window_knows_the_notes_before_it():
    corpus = make_corpus(tempo_map=TempoMap.constant(120))
    notes = tokens_to_notes(corpus.song(1))
    slots = notes.program.astype(int) * NUM_PITCHES + notes.pitch
    batch = whole(Windows(corpus, [1], 64))
    assert batch.past_beats.shape == batch.past_slots.shape == (len(batch.inputs), 32)
    numbers = []
    for row, beats in enumerate(batch.past_beats):
        is_note = ~np.isnan(beats)
        start_ms = batch.start_steps[row] * STEP_MS
        since = notes.start_ms - start_ms
        # Some of the 32 began just as the window does, but come first in the song's tokens.
        recent = np.flatnonzero((since < 0) & (since > -PAST_STEPS * STEP_MS))[-28:]
        found = set(
            zip((beats[is_note] * 500).round(), batch.past_slots[row, is_note], strict=True)
        )
        assert found >= set(zip(notes.start_ms[recent], slots[recent], strict=True))
        numbers.append(len(recent))
    assert numbers[0] == 0
    assert max(numbers) == 28
    augmented = whole(Windows(corpus, [1], 64, augment=True))
    beats = augmented.past_beats[~np.isnan(augmented.past_beats)]
    distance = np.abs(beats[:, None] - notes.start_ms / 500).min(axis=1)
    assert distance.max() < 0.012, "augmentation does no more than to round times anew"
    assert set((augmented.past_slots[:, 0] // NUM_PITCHES).tolist()) - set(notes.program.tolist())
    assert np.isnan(whole(Windows(CORPUS, SONGS, 64)).past_beats).all(), "no map, no metronome"


def test_epochs_cut_and_order_differently():
    epochs = [whole(Windows(CORPUS, SONGS, 64, epoch=e, shuffle=True)) for e in range(8)]
    assert len({tuple(sorted(batch.start_steps.tolist())) for batch in epochs}) == 8
    other_seed = whole(Windows(CORPUS, SONGS, 64, seed=1, shuffle=True))
    assert other_seed.inputs.tolist() != epochs[0].inputs.tolist()


def test_an_epoch_reads_each_song_about_once_though_few_fit_in_memory():
    corpus = make_corpus(60)
    read: list[int] = []

    def read_song(index):
        read.append(index)
        return read_notes(corpus.song(index), DRUM_PROGRAM)

    num_bytes = sum(corpus.notes(index).num_bytes for index in range(60))
    for share, most in ((0.2, 90), (1.0, 60)):
        corpus.notes = NotesCache(read_song, int(share * num_bytes))
        windows = Windows(corpus, range(60), 64, shuffle=True)
        assert len(windows) > 400
        read.clear()
        starts = [int(windows.batch(n, 1).start_steps[0]) for n in range(len(windows))]
        assert set(read) == set(range(60))
        assert len(read) <= most
        following = np.mean(np.diff(starts) > 0)
        assert 0.35 < following < 0.65, "the order of a song's windows is random too"


def test_a_song_is_cut_alike_whatever_songs_are_with_it():
    alone = whole(Windows(CORPUS, [1], 64, seed=3, shuffle=True)).targets
    together = whole(Windows(CORPUS, [2, 1], 64, seed=3, shuffle=True)).targets
    assert {tuple(row) for row in alone.tolist()} <= {tuple(row) for row in together.tolist()}


def test_no_songs_make_an_empty_epoch():
    windows = Windows(CORPUS, [], 8, augment=True, shuffle=True)
    assert len(windows) == 0
    assert num_batches(windows, 4) == 0
    assert not windows.batch(0, 4).weights.any()


@pytest.mark.parametrize("augment", [False, True])
def test_batches_depend_on_nothing_but_seed_epoch_and_number(augment):
    options = {"seed": 5, "epoch": 2, "augment": augment, "shuffle": True}
    once = whole(Windows(CORPUS, SONGS, 64, **options))
    windows = Windows(CORPUS, SONGS, 64, **options)
    for first in reversed(range(0, len(windows), 7)):
        for part, expected in zip(windows.batch(first, 7), once, strict=True):
            rows = expected[first : first + 7]
            np.testing.assert_array_equal(part[: len(rows)], rows)


@pytest.mark.parametrize("augment", [False, True])
def test_a_row_is_the_same_whichever_rows_are_made_with_it(augment):
    corpus = make_corpus(tempo_map=TempoMap.constant(120))
    windows = Windows(corpus, SONGS, 64, augment=augment, shuffle=True)
    together = whole(windows)
    numbers = np.random.default_rng(0).permutation(len(windows) + 3)  # some are padding
    mixed = windows.rows(numbers)
    for row, number in enumerate(numbers[:20].tolist()):
        alone = windows.rows([number])
        for a, b, c in zip(alone, mixed, together, strict=True):
            np.testing.assert_array_equal(a[0], b[row])
            if number < len(windows):
                np.testing.assert_array_equal(a[0], c[number])


@pytest.mark.parametrize("augment", [False, True])
def test_the_data_is_copied_and_kept(augment):
    before = CORPUS.tokens.tobytes()
    windows = Windows(CORPUS, SONGS, 64, augment=augment)
    expected = [part.copy() for part in whole(windows)]
    for part in whole(windows):
        part[:] = 0
    for part, kept in zip(whole(windows), expected, strict=True):
        np.testing.assert_array_equal(part, kept)
    assert CORPUS.tokens.tobytes() == before


def test_every_song_ends_though_its_windows_are_changed():
    """Augmentation may make the last window of a song longer than it can be."""
    for length in range(150, 170):
        corpus = FakeCorpus([CORPUS.song(1)[:length]])
        for epoch in range(3):
            batch = whole(Windows(corpus, [0], 64, epoch=epoch, augment=True))
            assert ((batch.targets == PAD) & (batch.weights == 1)).sum() == 1


# tf.data


def rows_of(batches):
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def start_and_beats(batch):
    return batch.start_steps, batch.beats


@pytest.fixture(scope="module")
def epoch():
    return Windows(CORPUS, SONGS, 64, seed=1, augment=True, shuffle=True)


@pytest.mark.parametrize("first_batch", [0, 1, 7])
@pytest.mark.parametrize("batches_at_once", [1, 3, 1000])
def test_a_dataset_resumes_at_any_batch(epoch, first_batch, batches_at_once, monkeypatch):
    monkeypatch.setattr("midinet.data.pipeline._TOKENS_AT_ONCE", batches_at_once * 4 * 64)
    batches = list(dataset(epoch, 4, first_batch, features=start_and_beats).as_numpy_iterator())
    assert len(batches) == num_batches(epoch, 4) - first_batch
    for number, batch in enumerate(batches, first_batch):
        made = epoch.batch(4 * number, 4)
        for part, expected in zip(batch, (*made[:3], *start_and_beats(made)), strict=True):
            assert part.dtype == expected.dtype
            np.testing.assert_array_equal(part, expected)


def test_a_dataset_knows_its_shapes_and_length(epoch):
    batches = dataset(epoch, 4, rows=slice(1, 3), features=start_and_beats)
    shapes = [tuple(spec.shape) for spec in batches.element_spec]
    assert shapes == [(2, 64)] * 3 + [(2,), (2, 64)]
    assert int(batches.cardinality()) == num_batches(epoch, 4)


@pytest.mark.parametrize("parts", [[slice(0, 2), slice(2, 4)], [slice(0, 1), slice(1, 4)]])
def test_workers_share_each_batch_between_them(epoch, parts):
    shares = [list(dataset(epoch, 4, 2, rows).as_numpy_iterator()) for rows in parts]
    together = [rows_of(batch) for batch in zip(*shares, strict=True)]
    alone = list(dataset(epoch, 4, 2).as_numpy_iterator())
    for batch, expected in zip(together, alone, strict=True):
        for part, expected_part in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(part, expected_part)


def test_memory_does_not_grow_from_epoch_to_epoch():
    corpus = FakeCorpus([np.full(60_000, PROGRAM.first)])

    def run(epoch):
        """The end of an epoch of 60,000 windows, whose plan takes half a megabyte."""
        windows = Windows(corpus, [0], 2, epoch=epoch, augment=True, shuffle=True)
        last = num_batches(windows, 10) - 1
        assert len(list(dataset(windows, 10, first_batch=last))) == 1

    run(0)
    tracemalloc.start()
    run(1)
    before, _ = tracemalloc.get_traced_memory()
    for epoch in range(2, 6):
        run(epoch)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 500_000
