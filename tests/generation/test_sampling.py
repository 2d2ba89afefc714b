"""The cached decoder is the model, and tokens come in the promised frequencies."""

import functools

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec import vocabulary
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import (
    DRUM_PROGRAM,
    NOTE_ON,
    PAD,
    PROGRAM,
    TIME_SHIFT,
    VOCAB_SIZE,
)
from midinet.errors import OptionError
from midinet.generation import cached_decoder as decoder
from midinet.generation import grammar, sampling, token_choice
from midinet.generation.beats import Beats, pulse_at
from midinet.generation.settings import GrammarRules, SamplingSettings
from midinet.midi.tempo_map import TempoMap
from midinet.model import music_state
from midinet.model.meter import onsets_of
from midinet.model.music_transformer import build_model
from midinet.model.parameters import Parameters

LONGEST = 24
NOTHING = np.empty(0, np.uint16)


def make_model(longest=LONGEST, hears_state=False):
    """A tiny model with weights so large that every position matters."""
    parameters = Parameters(
        embedding_size=32,
        sequence_length=longest,
        num_blocks=2,
        num_heads=2,
        feed_forward_dim=24,
    )
    model = build_model(parameters, CodecSettings(), hears_state=hears_state)
    random = np.random.default_rng(0)
    for name, variable in model.weights_by_name().items():
        size = 2.0 if name == "position_embedding" else 0.3
        shift = 1.0 if name.endswith("gamma") else 0.0
        bias = 0.0 if name == "logits/bias" else 1.0  # else a few tokens always win
        variable.assign(shift + bias * size * random.normal(size=variable.shape))
    return model


def window_start(length, longest):
    """Where the window begins behind `length` tokens, by the documented rule."""
    return next(s for s in range(0, length, longest // 2) if length - s <= longest)


@functools.cache
def forward_graph(model):
    return tf.function(lambda ids: model(ids), autograph=False)


def full_forward(model, tokens):
    """The model's logits after the last of tokens `(B, n)`, with nothing kept from before."""
    longest = model.parameters.sequence_length
    window = tokens[:, window_start(tokens.shape[1], longest) :]
    # What comes after a position changes nothing there; with one length there is one graph.
    filled = np.pad(window, ((0, 0), (0, longest - window.shape[1])), constant_values=PAD)
    return forward_graph(model)(tf.constant(filled, tf.int32))[:, window.shape[1] - 1].numpy()


@pytest.mark.parametrize("pieces", [1, 2, 5])  # each multiplies in another way
def test_cached_logits_equal_the_models_at_every_position_and_after_a_refill(pieces):
    model = make_model()
    weights = decoder.pack_weights(model.weights_by_name())
    shape = (pieces, 2 * LONGEST)
    tokens = np.random.default_rng(1).integers(0, VOCAB_SIZE, shape).astype(np.int32)
    step = tf.function(decoder.next_logits, jit_compile=True, autograph=False)

    start = 0
    caches = decoder.fill_caches(weights, tokens[:, :0], LONGEST)
    for n in range(tokens.shape[1]):
        if n - start == LONGEST:
            start += LONGEST // 2
            caches = decoder.fill_caches(weights, tokens[:, start:n], LONGEST)
        logits, _, caches = step(weights, caches, tf.constant(tokens[:, n]), tf.constant(n - start))
        np.testing.assert_allclose(logits, full_forward(model, tokens[:, : n + 1]), atol=1e-4)


def test_caches_shorter_than_the_window_give_the_models_logits():
    model, rows = make_model(), LONGEST // 2
    weights = decoder.pack_weights(model.weights_by_name())
    tokens = np.random.default_rng(1).integers(0, VOCAB_SIZE, (1, rows)).astype(np.int32)
    step = tf.function(decoder.next_logits, jit_compile=True, autograph=False)

    caches = decoder.fill_caches(weights, tokens[:, :2], rows)
    weights = decoder.slice_relative_embeddings(weights, rows)
    for n in range(2, rows):
        logits, _, caches = step(weights, caches, tf.constant(tokens[:, n]), tf.constant(n))
        np.testing.assert_allclose(logits, full_forward(model, tokens[:, : n + 1]), atol=1e-4)


@pytest.mark.parametrize("seed_length", [0, LONGEST - 1, LONGEST, 2 * LONGEST + 3])
def test_greedy_output_is_the_greedy_output_of_the_full_model_over_three_windows(seed_length):
    model = make_model()
    seeds = np.random.default_rng(2).integers(0, PAD, (2, seed_length)).astype(np.uint16)
    made = sampling.compose(
        model, list(seeds), 3 * LONGEST, settings=SamplingSettings(1, rules=None)
    )

    tokens = np.concatenate([np.full((2, 1), PAD), seeds], axis=1)
    for _ in range(3 * LONGEST):
        choice = full_forward(model, tokens).argmax(axis=1)
        tokens = np.concatenate([tokens, choice[:, None]], axis=1)
    for piece, expected in zip(made, tokens[:, 1 + seed_length :], strict=True):
        assert len(set(expected)) > 3, "a model that repeats itself proves nothing"
        np.testing.assert_array_equal(piece, sampling.trim_at_pad(expected))


class Recorder:
    """Wraps `next_logits` of a compiled loop: what it was given and what it said, per token."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(sampling, "_compiled_loop", self.loop)

    def loop(self, B, capacity, top_k, has_rules):
        def run(  # noqa: PLR0913  (the parameters of the loop that it replaces)
            weights, caches, token, state, rules, position, count, uniform, numbers, tempos
        ):
            temperature, top_p, *_ = tf.unstack(numbers)
            made = np.full((sampling.CALL_TOKENS, B), PAD, np.int32)
            for i in range(int(count)):
                features = self.features(state.music, tempos)
                logits, _, caches = self.step(weights, caches, token, position + i, features)
                self.calls.append((int(position) + i, features, logits.numpy()))
                logits = self.mask(logits, state, rules) if has_rules else logits
                token = self.choose(logits, top_k, temperature, top_p, tf.constant(uniform[i]))
                state = self.advance(state, token, rules)
                made[i] = token
            return tf.constant(made), token, caches, state

        return run

    step = staticmethod(tf.function(decoder.next_logits, jit_compile=True, autograph=False))
    choose = staticmethod(tf.function(token_choice.sample_token, jit_compile=True))
    mask = staticmethod(tf.function(grammar.mask_logits, autograph=False))
    advance = staticmethod(tf.function(grammar.advance, autograph=False))

    @staticmethod
    @tf.function(autograph=False)
    def features(music, tempos):
        return music_state.features(music, pulse_at(music.now, tempos))


@pytest.mark.parametrize("bpm", [None, 120])
def test_a_model_that_hears_the_state_composes_by_its_own_logits_across_refills(monkeypatch, bpm):
    longest, length = 48, 130
    model = make_model(longest, hears_state=True)
    recorder = Recorder(monkeypatch)
    settings = SamplingSettings(40, seed=3, rules=GrammarRules(may_end=False), bpm=bpm)
    pieces = sampling.compose(model, [NOTHING] * 2, length, settings=settings)
    assert len(recorder.calls) == length
    tokens = np.concatenate([np.full((2, 1), PAD), pieces], axis=1).astype(np.int32)

    # One forward pass tells what follows each token from one refill to the next.
    starts = range(0, length - longest // 2, longest // 2)
    for start in starts:
        kept = start + longest // 2 if start else 0  # that many tokens are there at the refill
        end = min(start + longest, length)
        calls = recorder.calls[kept:end]
        assert [position for position, *_ in calls] == list(range(kept - start, end - start))
        for row in range(2):
            # The window as it was refilled, and then the true state after each token since.
            state = music_state.window_features(tokens[row : row + 1, :end], DRUM_PROGRAM)
            window = tokens[row : row + 1, start:end]
            if start:
                refilled, start_steps, onsets = sampling.restated_window(
                    tokens[row, :kept], kept - start, DRUM_PROGRAM
                )
                refilled, onsets = refilled[None], onsets[None]
                window = np.concatenate([refilled, tokens[row : row + 1, kept:end]], axis=1)
                old = music_state.window_features(refilled, DRUM_PROGRAM, start_steps, onsets)
                pairs = zip(old, state, strict=True)
                state = music_state.Features(
                    *(np.concatenate([a, b[:, kept:]], axis=1) for a, b in pairs)
                )
            beats = Beats([TempoMap.constant(bpm) if bpm else None])
            state = state._replace(**beats.at(state.now_steps)._asdict())
            # What was played before the window too, of as many notes as the caches remember.
            played = tokens[row : row + 1, :end]
            whole = music_state.window_features(played, DRUM_PROGRAM)
            whole = whole._replace(**beats.at(whole.now_steps)._asdict())
            forgotten = np.flatnonzero(NOTE_ON.holds(played[0, :kept]))
            forgotten = forgotten[: -(longest // 2 + kept - start)]
            whole.tick[0, forgotten] = music_state.NO_TICK
            onsets = onsets_of(played, whole)
            expected = model(window, state, onsets)[0, kept - end :]
            logits = [logits[row] for *_, logits in calls]
            np.testing.assert_allclose(logits, expected, atol=1e-4, err_msg=f"from {kept}")


def test_the_compiled_loop_hears_the_state_too(monkeypatch):
    model, length = make_model(48, hears_state=True), 130
    settings = SamplingSettings(8, seed=5, bpm=100)
    compiled = sampling.compose(model, [NOTHING] * 2, length, settings=settings)
    Recorder(monkeypatch)
    by_steps = sampling.compose(model, [NOTHING] * 2, length, settings=settings)
    for one, other in zip(compiled, by_steps, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_hears_the_metronome_composes_other_music_to_another_tempo():
    model = make_model(48, hears_state=True)
    pieces = [
        sampling.compose(model, [NOTHING], 60, settings=SamplingSettings(8, seed=5, bpm=bpm))[0]
        for bpm in (None, 90, 140)
    ]
    assert len({piece.tobytes() for piece in pieces}) == 3


def test_caches_that_grow_hold_what_they_held(monkeypatch):
    model, settings = make_model(longest=512), SamplingSettings(1, rules=None)
    monkeypatch.setattr(sampling, "_cache_sizes", lambda *_: [64, 128])
    in_steps = sampling.compose(model, [NOTHING], 120, settings=settings)
    monkeypatch.setattr(sampling, "_cache_sizes", lambda *_: [128])
    at_once = sampling.compose(model, [NOTHING], 120, settings=settings)
    np.testing.assert_array_equal(in_steps[0], at_once[0])


@pytest.mark.parametrize(
    ("B", "longest", "most", "expected"),
    [
        (1, 2048, 100, [256]),
        (1, 2048, 1000, [1024]),
        (1, 2048, 3012, [2048]),  # for one piece, compiling twice would cost more than it gains
        (4, 2048, 3012, [1024, 2048]),
        (4, 2048, 1024, [1024]),
        (4, 2000, 3012, [1024, 2000]),
        (16, 2048, 3012, [512, 1024, 1536, 2048]),
        (16, 2048, 700, [512, 768]),
        (16, 48, 3012, [48]),
    ],
)
def test_caches_have_few_lengths(B, longest, most, expected):
    assert sampling._cache_sizes(B, longest, most, on_gpu=False) == expected


def test_a_gpu_takes_a_single_length_of_caches():
    assert sampling._cache_sizes(16, 2048, 3012, on_gpu=True) == [2048]


@pytest.mark.parametrize("seed", range(3))
def test_the_likeliest_token_comes_first_and_the_first_of_equals(seed):
    random = np.random.default_rng(seed)
    logits = random.choice([-np.inf, -1e30, -2.5, -1e-40, 1e-40, 0.5, 3.0, 1e30], (4, 517))
    logits = np.where(random.random((4, 517)) < 0.5, logits, random.normal(0, 9, (4, 517)))
    order = tf.function(token_choice._argsort_descending, jit_compile=True)(
        tf.constant(logits, tf.float32)
    )
    np.testing.assert_array_equal(order, np.argsort(-logits.astype(np.float32), kind="stable"))


choose = tf.function(token_choice.sample_token, jit_compile=True)


def draw(logits, num, top_k, temperature, top_p):
    """How often each token comes, for uniform numbers that are evenly spread."""
    logits = tf.tile(tf.constant([logits], tf.float32), (num, 1))
    uniform = tf.constant((np.arange(num) + 0.5) / num, tf.float32)
    drawn = choose(logits, top_k, tf.constant(temperature), tf.constant(top_p), uniform)
    return np.bincount(drawn, minlength=logits.shape[1]) / num


FIVE = np.log([0.1, 0.4, 0.2, 0.0, 0.3], where=[1, 1, 1, 0, 1], out=np.full(5, -np.inf))


@pytest.mark.parametrize(
    ("top_k", "temperature", "top_p", "expected"),
    [
        (5, 1.0, 1.0, [0.1, 0.4, 0.2, 0, 0.3]),
        (1, 1.0, 1.0, [0, 1, 0, 0, 0]),
        (2, 1.0, 1.0, [0, 4 / 7, 0, 0, 3 / 7]),
        (5, 0.5, 1.0, [0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0, 0.09 / 0.3]),
        (5, 1.0, 0.3, [0, 1, 0, 0, 0]),
        (5, 1.0, 0.6, [0, 4 / 7, 0, 0, 3 / 7]),
        (3, 1.0, 0.8, [0, 4 / 9, 2 / 9, 0, 3 / 9]),  # of the three, two have 7/9
        (5, 0.5, 0.8, [0, 0.64, 0, 0, 0.36]),  # temperature comes before top-p: 25/30
    ],
)
def test_tokens_come_as_often_as_the_filtered_distribution_says(
    top_k, temperature, top_p, expected
):
    drawn = draw(FIVE, 9000, top_k, temperature, top_p)
    np.testing.assert_allclose(drawn, expected, atol=3e-4)


def test_forbidden_tokens_never_come_even_for_the_largest_uniform_number():
    logits = tf.constant([[0.0, -np.inf, 0.1, -np.inf]])
    for uniform in (0.0, np.nextafter(np.float32(1), np.float32(0))):
        token = choose(logits, 4, 1.0, 1.0, tf.constant([uniform]))
        assert int(token[0]) in (0, 2)


def shares(logits):
    return np.exp(logits - np.logaddexp.reduce(logits))


def some_logits():
    """Two rows; of the first a PROGRAM is forbidden, of the second all of them."""
    logits = np.random.default_rng(0).normal(0, 3, (2, VOCAB_SIZE)).astype(np.float32)
    logits[0, PROGRAM.first + 5] = -np.inf
    logits[1, PROGRAM.first : PROGRAM.end] = -np.inf
    return logits


def steer(logits, preference, kind_temperature):
    return token_choice.steer_within_kinds(
        tf.constant(logits), tf.constant(preference), tf.constant(kind_temperature)
    ).numpy()


KINDS = [slice(kind.first, kind.end) for kind in vocabulary.KINDS.values()]


def totals(logits):
    return np.array([shares(logits)[kind].sum() for kind in KINDS])


@pytest.mark.parametrize("kind_temperature", [0.5, 1.0, 2.0])
def test_a_preference_and_the_temperature_of_kinds_change_only_what_they_are_meant_for(
    kind_temperature,
):
    logits = some_logits()
    preference = np.random.default_rng(1).normal(0, 1, logits.shape).astype(np.float32)
    new = steer(logits, preference, kind_temperature)
    np.testing.assert_array_equal(np.isinf(new), np.isinf(logits))
    for before, preferred, after in zip(logits, preference, new, strict=True):
        expected = totals(before) ** (1 / kind_temperature)
        np.testing.assert_allclose(totals(after), expected / expected.sum(), rtol=1e-3)
        for kind in KINDS:
            if np.isinf(before[kind]).all():
                continue
            wanted = before[kind] + preferred[kind]
            wanted = wanted / kind_temperature if kind.start == PROGRAM.first else wanted
            np.testing.assert_allclose(shares(after[kind]), shares(wanted), rtol=1e-3)


def test_without_a_preference_and_a_temperature_of_kinds_the_logits_are_the_very_same():
    logits = some_logits()
    np.testing.assert_array_equal(steer(logits, np.zeros_like(logits), 1.0), logits)


def set_logits(model, bias):
    """Makes a model that says the same whatever came before."""
    weights = model.weights_by_name()
    weights["logits/kernel"].assign(tf.zeros_like(weights["logits/kernel"]))
    weights["logits/bias"].assign(bias)
    return model


def test_composed_tokens_pass_a_chi_square_test_against_the_models_distribution():
    bias = np.full(VOCAB_SIZE, -50.0)
    bias[:8] = np.log([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    model = set_logits(make_model(), bias)
    made = sampling.compose(
        model, [NOTHING] * 2, 2000, settings=SamplingSettings(8, 1.0, 1.0, seed=3, rules=None)
    )
    counts = np.bincount(np.concatenate(made), minlength=8)
    expected = np.exp(bias[:8]) * 4000
    assert len(counts) == 8
    # 7 degrees of freedom: 24.3 is exceeded once in 1000 seeds, and the seed is fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 24.3
    # Neither piece follows the other.
    assert 0.1 < np.mean(made[0] == made[1]) < 0.25


def test_the_same_seed_gives_the_same_piece_in_any_batch_and_another_seed_another():
    model = make_model()
    batch = sampling.compose(model, [NOTHING] * 2, 300, settings=SamplingSettings(8, seed=5))
    alone = sampling.compose(model, [NOTHING], 300, settings=SamplingSettings(8, seed=6))
    again = sampling.compose(model, [NOTHING], 300, settings=SamplingSettings(8, seed=6))
    np.testing.assert_array_equal(alone[0], again[0])
    np.testing.assert_array_equal(alone[0], batch[1])
    assert not np.array_equal(batch[0], batch[1])


def test_a_piece_that_ends_is_cut_at_its_end_and_the_others_go_on():
    bias = np.zeros(VOCAB_SIZE)
    bias[[TIME_SHIFT.first, PAD]] = 6.0
    model = set_logits(make_model(), bias)
    settings = SamplingSettings(8, seed=1, rules=GrammarRules(max_note_ms=10))
    pieces = sampling.compose(model, [NOTHING] * 2, 2000, settings=settings)
    lengths = {len(piece) for piece in pieces}
    assert max(lengths) < 2000
    assert len(lengths) == 2
    assert all(PAD not in piece and not TIME_SHIFT.holds(piece[-1]) for piece in pieces)


@pytest.mark.parametrize(
    ("seeds", "length"),
    [([], 5), ([NOTHING, np.zeros(3, np.uint16)], 5), ([NOTHING], 0)],
    ids=["no seed", "several lengths", "no length"],
)
def test_impossible_work_is_refused(seeds, length):
    with pytest.raises(OptionError, match=r"seed|length"):
        sampling.compose(make_model(), seeds, length)


def test_where_xla_cant_compile_for_the_gpu_the_cpu_composes():
    devices = []

    def compiled(x):
        device = tf.constant(0).device if tf.executing_eagerly() else ""
        devices.append(device)
        if len(devices) == 1:
            raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc")
        return x + 1

    run = sampling.on_cpu_if_xla_lacks_tools(compiled)
    with pytest.warns(UserWarning, match="XLA can't compile for this GPU"):
        assert run(1) == 2
    assert run(2) == 3, "without trying the GPU again"
    assert len(devices) == 3
    assert all("CPU:0" in device for device in devices[1:])


def test_other_errors_of_the_compiled_loop_are_not_hidden():
    def compiled():
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        sampling.on_cpu_if_xla_lacks_tools(compiled)()
