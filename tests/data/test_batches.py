"""Windows cover every token once; augmentation changes key and tempo and nothing else."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midinet.codec.decoding import tokens_to_notes
from midinet.codec.encoding import encode
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_OFF,
    NOTE_ON,
    PAD,
    PROGRAM,
    STEP_MS,
    TIME_SHIFT,
    VELOCITY,
    VOCAB_SIZE,
)
from midinet.data import batches
from midinet.data.batches import (
    LATE_STEPS,
    MAX_SEMITONES,
    MAX_STRETCH,
    Windows,
    dataset,
    end_late,
    num_batches,
    stretch,
    transpose,
    value_before,
)
from midinet.midi.notes import Notes

FULL_SHIFT = TIME_SHIFT.end - 1
DRUMS = PROGRAM.first + DRUM_PROGRAM
PIANO = PROGRAM.first


class FakeCorpus:
    """Songs in memory that, like a memory map, can't be written to."""

    def __init__(self, songs, drum_program=DRUM_PROGRAM):
        self.codec = CodecSettings(drum_program=drum_program)
        self.offsets = np.cumsum([0, *map(len, songs)]).astype(np.int64)
        self.tokens = np.concatenate([np.array(s, dtype=np.uint16) for s in songs])
        self.tokens.flags.writeable = False

    def __len__(self):
        return len(self.offsets) - 1

    def song(self, index):
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def numbered(lengths):
    """Songs in which every token is another number, so that each can be followed."""
    numbers = itertools.count(1000)
    return FakeCorpus([[next(numbers) for _ in range(length)] for length in lengths])


def pause(steps):
    """A pause as the encoder writes it."""
    full, rest = divmod(steps - 1, TIME_SHIFT.size)
    return [FULL_SHIFT] * full + [TIME_SHIFT.first + rest]


def music(random, length, longest_pause=250):
    """About `length` tokens of two melodic instruments and drums."""
    tokens = []
    while len(tokens) < length:
        program = random.choice([0, 40, DRUM_PROGRAM])
        pitch = random.integers(30, 90)
        tokens += [PROGRAM.first + program, VELOCITY.first + random.integers(1, 32)]
        tokens += [NOTE_ON.first + pitch, *pause(random.integers(1, longest_pause + 1))]
        if program != DRUM_PROGRAM:
            tokens += [NOTE_OFF.first + pitch, *pause(random.integers(1, 30))]
    return tokens


def musical_corpus(num_songs=12, length=400):
    random = np.random.default_rng(7)
    return FakeCorpus([music(random, random.integers(20, length)) for _ in range(num_songs)])


def whole(windows):
    return windows.batch(0, len(windows))


def events(tokens):
    """Reads tokens one by one: `(step, token, program)` of all that is not time; and the end."""
    step, program, found = 0, 0, []
    for token in map(int, tokens):
        if TIME_SHIFT.holds(np.array(token)):
            step += token - TIME_SHIFT.first + 1
            continue
        if PROGRAM.holds(np.array(token)):
            program = token - PROGRAM.first
        found.append((step, token, program))
    return found, step


def pauses(tokens):
    """The runs of neighbouring time shifts, each as a list of tokens."""
    runs = itertools.groupby(map(int, tokens), lambda t: bool(TIME_SHIFT.holds(np.array(t))))
    return [list(run) for is_time, run in runs if is_time]


# Windows


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    sequence_length=st.integers(1, 17),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
    shuffle=st.booleans(),
)
def test_an_epoch_covers_every_token_and_every_end_once(
    lengths, sequence_length, batch_size, seed, epoch, shuffle
):
    corpus = numbered(lengths)
    windows = Windows(
        corpus, range(len(corpus)), sequence_length, seed=seed, epoch=epoch, shuffle=shuffle
    )
    batches = [
        windows.batch(n * batch_size, batch_size) for n in range(num_batches(windows, batch_size))
    ]
    assert all(part.shape == (batch_size, sequence_length) for b in batches for part in b)
    inputs, targets, weights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    counts = weights == 1
    assert np.isin(weights, [0, 1]).all()
    assert (inputs[~counts] == PAD).all()
    assert (targets[~counts] == PAD).all()
    assert (np.diff(weights, axis=1) <= 0).all(), "padding is only behind"

    learned = sorted(zip(inputs[counts].tolist(), targets[counts].tolist(), strict=True))
    expected = []
    for index in range(len(corpus)):
        song = corpus.song(index).tolist()
        expected += zip([PAD, *song], [*song, PAD], strict=True)
    assert learned == sorted(expected)


@given(
    length=st.integers(1, 60),
    sequence_length=st.integers(1, 17),
    seed=st.integers(0, 99),
    shuffle=st.booleans(),
)
def test_a_song_has_no_window_more_than_it_needs(length, sequence_length, seed, shuffle):
    windows = Windows(numbered([length]), [0], sequence_length, seed=seed, shuffle=shuffle)
    assert len(windows) == -(-(length + 1) // sequence_length)
    sizes = np.sort(whole(windows)[2].sum(axis=1))
    assert (sizes[2:] == sequence_length).all(), "only the first and the last may be short"


def test_validation_windows_start_with_the_song_and_are_full_but_the_last():
    inputs, targets, weights = whole(Windows(numbered([10]), [0], 4))
    first = 1000
    assert inputs.tolist() == [
        [PAD, first, first + 1, first + 2],
        [first + 3, first + 4, first + 5, first + 6],
        [first + 7, first + 8, first + 9, PAD],
    ]
    assert targets.tolist() == [
        [first, first + 1, first + 2, first + 3],
        [first + 4, first + 5, first + 6, first + 7],
        [first + 8, first + 9, PAD, PAD],
    ]
    assert weights.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]


def test_epochs_cut_and_order_differently():
    corpus = numbered([50, 60, 70])
    epochs = [Windows(corpus, range(3), 8, epoch=e, shuffle=True) for e in range(20)]
    assert len({tuple(sorted(whole(w)[0][:, 0].tolist())) for w in epochs}) > 10, "other cuts"
    starts = [[n for n in whole(w)[0][:, 0].tolist() if n != PAD] for w in epochs]
    assert not any(start == sorted(start) for start in starts), "not in song order"
    other_seed = Windows(corpus, range(3), 8, seed=1, epoch=0, shuffle=True)
    assert whole(other_seed)[0].tolist() != whole(epochs[0])[0].tolist()


def test_a_song_is_cut_alike_whatever_songs_are_with_it():
    corpus = numbered([50, 60, 70])
    alone = whole(Windows(corpus, [1], 8, seed=3, shuffle=True))[1]
    together = whole(Windows(corpus, [2, 1], 8, seed=3, shuffle=True))[1]
    assert {tuple(row) for row in alone.tolist()} <= {tuple(row) for row in together.tolist()}


def test_no_songs_make_an_empty_epoch():
    windows = Windows(numbered([5]), [], 8, augment=True, shuffle=True)
    assert len(windows) == 0
    assert num_batches(windows, 4) == 0
    assert not windows.batch(0, 4)[2].any()


@pytest.mark.parametrize("augment", [False, True])
def test_batches_depend_on_nothing_but_seed_epoch_and_number(augment):
    corpus = musical_corpus()
    options = {"seed": 5, "epoch": 2, "augment": augment, "shuffle": True}
    once = whole(Windows(corpus, range(12), 32, **options))
    windows = Windows(corpus, range(12), 32, **options)
    for first in reversed(range(0, len(windows), 3)):
        for part, expected in zip(windows.batch(first, 3), once, strict=True):
            rows = expected[first : first + 3]
            np.testing.assert_array_equal(part[: len(rows)], rows)


@pytest.mark.parametrize("augment", [False, True])
def test_the_data_is_copied_and_kept(augment):
    corpus = musical_corpus()
    before = corpus.tokens.tobytes()
    windows = Windows(corpus, range(12), 32, augment=augment)
    first = whole(windows)
    expected = [part.copy() for part in first]
    for part in first:
        assert not np.shares_memory(part, corpus.tokens)
        part[:] = 0
    for part, kept in zip(whole(windows), expected, strict=True):
        np.testing.assert_array_equal(part, kept)
    assert corpus.tokens.tobytes() == before


# Augmentation of an epoch


@pytest.fixture
def nothing_ends_late(monkeypatch):
    monkeypatch.setattr(batches, "LATE_SHARE", 0)


@pytest.mark.usefixtures("nothing_ends_late")
def test_augmented_windows_are_the_plain_ones_in_another_key_and_tempo():
    corpus = musical_corpus()
    intervals, ratios = set(), []
    for epoch in range(6):
        plain, other = (
            whole(Windows(corpus, range(12), 64, epoch=epoch, augment=augment, shuffle=True))
            for augment in (False, True)
        )
        for row in range(len(plain[0])):
            tokens, changed = (
                np.append(inputs[row, :1], targets[row][weights[row] == 1])
                for inputs, targets, weights in (plain, other)
            )
            (source, duration), (result, new_duration) = events(tokens), events(changed)
            moved = {
                new - old
                for (_, old, _), (_, new, _) in zip(source, result, strict=False)
                if old < NOTE_OFF.end
            }
            assert moved <= set(range(-MAX_SEMITONES, MAX_SEMITONES + 1))
            assert len(moved - {0}) <= 1, "one interval, or none for percussion"
            assert all(
                new == old
                for (_, old, _), (_, new, _) in zip(source, result, strict=False)
                if old >= NOTE_OFF.end
            )
            intervals |= moved
            if [t for _, t, _ in source][-1] == [t for _, t, _ in result][-1] == PAD:
                assert len(source) == len(result), "a song's last window loses nothing"
                assert abs(new_duration - duration) <= MAX_STRETCH * duration + 1
                ratios.append(new_duration / max(1, duration))
            else:
                assert len(tokens) == len(changed), "it fills the room it has, and no more"
    assert intervals == set(range(-MAX_SEMITONES, MAX_SEMITONES + 1))
    assert min(ratios) < 0.97
    assert max(ratios) > 1.03


@pytest.mark.usefixtures("nothing_ends_late")
def test_augmented_songs_begin_and_end_once_and_fill_their_windows():
    corpus = musical_corpus()
    for epoch in range(5):
        windows = Windows(corpus, range(12), 64, epoch=epoch, augment=True)
        inputs, targets, weights = whole(windows)
        counts = weights == 1
        assert (inputs[:, 1:] == targets[:, :-1])[counts[:, 1:]].all(), "the shift by one"
        assert ((inputs == PAD) & counts).sum() == len(corpus)
        assert ((targets == PAD) & counts).sum() == len(corpus)
        assert ((inputs[:, 0] == PAD) & counts[:, 0]).sum() == len(corpus)
        is_last = ((targets == PAD) & counts).any(axis=1)
        is_first = inputs[:, 0] == PAD
        assert counts[~is_first & ~is_last].all(), "inner windows are refilled"


@pytest.mark.parametrize("steps", [100, 102])
@pytest.mark.parametrize("length", [40, 63, 64, 65, 100, 128, 130])
def test_a_song_ends_once_though_its_pauses_grow_and_shrink(length, steps):
    """1 s may grow to two tokens, 1.02 s shrink to one: the end must neither go nor come twice."""
    song = [NOTE_ON.first + 60, *pause(steps), NOTE_OFF.first + 60, *pause(steps)] * length
    corpus = FakeCorpus([song[:length]])
    for epoch in range(20):
        _, targets, weights = whole(Windows(corpus, [0], 64, epoch=epoch, augment=True))
        assert ((targets == PAD) & (weights == 1)).sum() == 1


def test_percussion_is_recognised_far_behind_its_program_change():
    drums = [DRUMS, *([NOTE_ON.first + 36, TIME_SHIFT.first + 20] * 2000)]
    piano = [PIANO, *([NOTE_ON.first + 36, TIME_SHIFT.first + 20] * 2000)]
    corpus = FakeCorpus([drums, piano])
    of_drums, of_piano = (
        whole(Windows(corpus, [song], 64, augment=True))[1] for song in range(len(corpus))
    )
    assert set(of_drums[of_drums < NOTE_OFF.end]) == {36}
    assert set(of_piano[of_piano < NOTE_OFF.end]) == set(range(33, 40))
    literal = FakeCorpus([drums], drum_program=None)
    tokens = whole(Windows(literal, [0], 64, augment=True))[1]
    assert set(tokens[tokens < NOTE_OFF.end]) == set(range(33, 40))


# Transposition and stretching of tokens

any_tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=80).map(
    lambda tokens: np.array(tokens, dtype=np.int32)
)


@given(
    tokens=any_tokens,
    semitones=st.integers(-20, 20),
    drum_program=st.sampled_from([None, 0, DRUM_PROGRAM]),
    program=st.sampled_from([0, DRUM_PROGRAM]),
)
def test_transposition_moves_melody_by_one_interval_and_nothing_else(
    tokens, semitones, drum_program, program
):
    before = tokens.copy()
    result = transpose(tokens, semitones, drum_program, program)
    np.testing.assert_array_equal(tokens, before)
    assert result.dtype == np.int32
    pitches, moved = [], []
    for old, new in zip(tokens.tolist(), result.tolist(), strict=True):
        if old >= PROGRAM.first and old != PAD:
            program = old - PROGRAM.first
        if old < NOTE_OFF.end and (drum_program is None or program != drum_program):
            pitches.append(old % 128)
            moved.append(new - old)
            assert old // 128 == new // 128, "a NOTE_ON stays one, and inside 0-127"
        else:
            assert old == new
    if pitches:
        assert len(set(moved)) == 1
        reach = range(-min(pitches), 128 - max(pitches))
        assert moved[0] == min(reach, key=lambda interval: abs(interval - semitones))


@given(
    song=st.lists(
        st.one_of(st.just([NOTE_ON.first + 60]), st.integers(1, 420).map(pause)), max_size=60
    ),
    factor=st.floats(1 - MAX_STRETCH, 1 + MAX_STRETCH),
)
def test_every_event_keeps_within_10_ms_of_its_stretched_time(song, factor):
    tokens = np.array([token for part in song for token in part], dtype=np.int32)
    before = tokens.copy()
    result = stretch(tokens, factor)
    np.testing.assert_array_equal(tokens, before)
    if np.array_equal(result, tokens):
        factor = 1 if abs(events(tokens)[1] * (factor - 1)) > 1 else factor
    (source, duration), (stretched, new_duration) = events(tokens), events(result)
    assert [token for _, token, _ in source] == [token for _, token, _ in stretched]
    for (old, _, _), (new, _, _) in zip(source, stretched, strict=True):
        assert abs(new - old * factor) * STEP_MS <= 10
    assert abs(new_duration - duration * factor) * STEP_MS <= 10
    assert len(pauses(result)) == len(pauses(tokens)), "no pause becomes nothing"
    if factor != 1:
        assert pauses(result) == [pause(events(run)[1]) for run in pauses(result)]


@given(
    steps=st.lists(st.integers(2, 420), min_size=1, max_size=60),
    factor=st.floats(1 - MAX_STRETCH, 1 + MAX_STRETCH),
)
def test_pauses_of_20_ms_and_more_are_always_stretched(steps, factor):
    tokens = [token for step in steps for token in [*pause(step), NOTE_ON.first]]
    stretched, _ = events(stretch(np.array(tokens, dtype=np.int32), factor))
    ends = np.cumsum(steps) * factor
    assert np.abs([step for step, _, _ in stretched] - ends).max() <= 0.5


@pytest.mark.parametrize(
    ("steps", "factor", "expected"),
    [
        ([10, 10, 10, 10], 1.05, [11, 10, 11, 10]),  # the error is carried, not summed
        ([237], 1.05, [249]),  # 2.37 s is one pause though it takes three tokens
        ([100], 1.05, [105]),  # one token becomes two
        ([102], 0.95, [97]),  # two tokens become one
        ([1, 1, 40], 0.95, [1, 1, 38]),  # 10 ms stay 10 ms, the next pause pays
        ([1] * 60, 0.95, [1] * 60),  # nothing could pay: the tempo stays
        ([1] * 60 + [50], 0.95, [1] * 60 + [50]),  # what would come too late
        ([1] * 60, 1.05, None),  # slower always works
    ],
)
def test_pauses_stretch(steps, factor, expected):
    tokens = np.array([t for step in steps for t in [*pause(step), NOTE_ON.first]], dtype=np.int32)
    result = [events(run)[1] for run in pauses(stretch(tokens, factor))]
    if expected is None:
        assert sum(result) == round(sum(steps) * factor)
    else:
        assert result == expected


def a_song(seed):
    """300 notes of four instruments, many of them at once, as the encoder writes them."""
    random = np.random.default_rng(seed)
    time_ms = np.cumsum(random.choice([0, 10, 20, 250, 480, 1000, 2510], size=300)).astype(float)
    notes = Notes(
        start_ms=time_ms,
        end_ms=time_ms + random.choice([10, 120, 990, 1000, 3000], size=300),
        program=random.choice([0, 33, 48], size=300).astype(np.uint8),
        pitch=random.integers(20, 100, size=300).astype(np.uint8),
        velocity=random.integers(1, 128, size=300).astype(np.uint8),
        is_drum=random.random(300) < 0.3,
    )
    return encode(notes).astype(np.int32)


@pytest.mark.parametrize("seed", range(6))
def test_augmented_music_is_still_what_the_encoder_writes(seed):
    """In the order, with the pauses and without a token that it would leave out."""
    tokens = a_song(seed)
    for factor, semitones in [(0.95, 3), (1.05, -3), (1.013, 1)]:
        changed = transpose(stretch(tokens, factor), semitones, DRUM_PROGRAM)
        assert not np.array_equal(changed, tokens)
        np.testing.assert_array_equal(encode(tokens_to_notes(changed)), changed)


def onsets_and_ends(notes):
    return np.stack([notes.start_ms, notes.program, notes.pitch, notes.velocity]), notes.end_ms


@pytest.mark.parametrize("seed", range(6))
def test_some_notes_end_late_and_nothing_else_changes(seed):
    song = np.concatenate([[PAD], a_song(seed), [PAD]]).astype(np.int32)
    late = end_late(song, np.random.default_rng(seed))
    assert late.dtype == np.int32
    assert late[0] == late[-1] == PAD
    np.testing.assert_array_equal(encode(tokens_to_notes(late)), late[1:-1])

    (onsets, ends), (new_onsets, new_ends) = (
        onsets_and_ends(tokens_to_notes(tokens)) for tokens in (song, late)
    )
    np.testing.assert_array_equal(onsets, new_onsets)
    delays = new_ends - ends
    assert (delays >= 0).all()
    assert 2 <= (delays > 0).sum() <= 30, "4% of 200 notes, more or less"
    assert delays.max() <= LATE_STEPS[1] * STEP_MS
    assert new_ends.max() == ends.max(), "the last event stays the last"


@pytest.mark.parametrize("seed", range(6))
def test_notes_end_late_in_the_middle_of_a_song_too(seed):
    """Read behind what came before, the window is music with the same onsets."""
    song = a_song(seed)
    for start in range(1, len(song) - 200, 37):
        program, level = (value_before(song, start, kind, 0) for kind in (PROGRAM, VELOCITY))
        window = song[start : start + 200]
        late = end_late(window, np.random.default_rng(start), program, level)
        # Behind the last event there may be a pause, a program or a velocity for the next.
        assert 0 <= len(window) + 20 - len(late) <= 60
        onsets, new_onsets = (
            onsets_and_ends(tokens_to_notes(np.append(song[:start], tokens)))[0]
            for tokens in (window, late)
        )
        np.testing.assert_array_equal(onsets, new_onsets)


def test_augmented_windows_have_notes_that_end_late(monkeypatch):
    corpus = FakeCorpus([a_song(0)])

    def notes_with_share(share):
        monkeypatch.setattr(batches, "LATE_SHARE", share)
        windows = Windows(corpus, [0], 2 * len(corpus.tokens), augment=True)
        return onsets_and_ends(tokens_to_notes(whole(windows)[1][0]))

    (onsets, ends), (new_onsets, new_ends) = notes_with_share(0), notes_with_share(1)
    np.testing.assert_allclose(onsets, new_onsets, atol=STEP_MS)
    assert (new_ends > ends + STEP_MS).sum() > 100


def test_music_without_late_notes_is_the_same_array():
    drums = np.array([PAD, DRUMS, VELOCITY.first + 9, NOTE_ON.first + 36, PAD], dtype=np.int32)
    for tokens in (drums, drums[:1], drums[:0]):
        assert end_late(tokens, np.random.default_rng(0)) is tokens


@settings(max_examples=50)
@given(tokens=any_tokens, position=st.integers(0, 3000), lead=st.integers(0, 2000))
def test_the_current_program_is_the_last_one_before(tokens, position, lead):
    song = np.concatenate([tokens, np.zeros(lead, dtype=np.int32)]).astype(np.uint16)
    seen = [int(t) - PROGRAM.first for t in song[:position] if PROGRAM.holds(t)]
    assert value_before(song, position, PROGRAM, 0) == (seen[-1] if seen else 0)


# tf.data


def rows_of(batches):
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@pytest.fixture(scope="module")
def epoch():
    return Windows(musical_corpus(), range(12), 32, seed=1, augment=True, shuffle=True)


@pytest.mark.parametrize("first_batch", [0, 1, 7])
def test_a_dataset_resumes_at_any_batch(epoch, first_batch):
    batches = list(dataset(epoch, 4, first_batch).as_numpy_iterator())
    assert len(batches) == num_batches(epoch, 4) - first_batch
    for number, batch in enumerate(batches, first_batch):
        for part, expected in zip(batch, epoch.batch(4 * number, 4), strict=True):
            assert part.dtype == expected.dtype
            np.testing.assert_array_equal(part, expected)


def test_a_dataset_knows_its_shapes_and_length(epoch):
    batches = dataset(epoch, 4, rows=slice(1, 3))
    assert [tuple(spec.shape) for spec in batches.element_spec] == [(2, 32)] * 3
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
    corpus = numbered([60_000])

    def run(epoch):
        """The end of an epoch of 30,000 windows, whose plan takes half a megabyte."""
        windows = Windows(corpus, [0], 2, epoch=epoch, augment=True, shuffle=True)
        assert len(list(dataset(windows, 100, first_batch=num_batches(windows, 100) - 1))) == 1

    run(0)
    tracemalloc.start()
    run(1)
    before, _ = tracemalloc.get_traced_memory()
    for epoch in range(2, 6):
        run(epoch)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 500_000
