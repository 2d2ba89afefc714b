"""The model and its folder: the mathematics of the design, and files that are never half there."""

import json
import shutil

import numpy as np
import pytest

from midinet.backend import tf
from midinet.codec.settings import CodecSettings
from midinet.codec.vocabulary import PROGRAM, TIME_SHIFT, VOCAB_SIZE
from midinet.errors import ModelError, OptionError
from midinet.model.meter import NUM_SCORES, window_onsets
from midinet.model.music_state import Pulse, window_features
from midinet.model.music_transformer import build_model, open_model, save_model
from midinet.model.parameters import Parameters

TINY = Parameters(
    embedding_size=16,
    sequence_length=24,
    num_blocks=2,
    num_heads=2,
    feed_forward_dim=32,
    batch_size=4,
)
IDS = np.random.default_rng(0).integers(0, TINY.vocab_size, (2, 20))


@pytest.fixture(scope="module")
def model():
    return build_model(TINY, CodecSettings(drum_program=None))


def test_tokens_of_any_integer_type_give_the_same(model):
    expected = model(IDS.astype(np.int32))
    for dtype in (np.uint16, np.int64):  # of encode, of numpy
        np.testing.assert_array_equal(model(IDS.astype(dtype)), expected)


def reference_logits(weights: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Section 5 of the design in float64, one pair of positions at a time."""
    D, H, L = TINY.embedding_size, TINY.num_heads, TINY.sequence_length
    d = D // H

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    x = weights["token_embedding"][ids] + weights["position_embedding"][: len(ids)]
    for b in range(TINY.num_blocks):
        name = f"block_{b}"
        q, k, v = (
            dense(x, f"{name}/{part}").reshape(-1, H, d) for part in ("query", "key", "value")
        )
        E = weights[f"{name}/relative_embedding"]
        y = np.zeros_like(q)
        for h in range(H):
            for i in range(len(ids)):
                scores = [q[i, h] @ k[j, h] + q[i, h] @ E[L - 1 - (i - j)] for j in range(i + 1)]
                p = np.exp(np.array(scores) / np.sqrt(d))
                y[i, h] = p / p.sum() @ v[: i + 1, h]
        x = norm(x + dense(y.reshape(-1, D), f"{name}/output"), f"{name}/norm_1")
        y = dense(np.maximum(dense(x, f"{name}/feed_forward_1"), 0), f"{name}/feed_forward_2")
        x = norm(x + y, f"{name}/norm_2")
    return dense(x, "logits")


def test_logits_are_those_of_the_design(model):
    weights = {name: v.numpy().astype(np.float64) for name, v in model.weights_by_name().items()}
    logits = model(IDS).numpy()
    assert logits.shape == (2, 20, TINY.vocab_size)
    for row, ids in zip(logits, IDS, strict=True):
        np.testing.assert_allclose(row, reference_logits(weights, ids), atol=1e-4)


def test_every_weight_has_a_name(model):
    named = {id(variable) for variable in model.weights_by_name().values()}
    assert named == {id(variable) for variable in model.variables}


def test_dropout_needs_a_seed(model):
    seed = np.array([1, 2], np.int32)
    np.testing.assert_array_equal(model(IDS), model(IDS))
    dropped = model(IDS, dropout_seed=seed)
    assert np.abs(dropped - model(IDS)).max() > 1e-3
    np.testing.assert_array_equal(dropped, model(IDS, dropout_seed=seed))


def test_a_longer_sequence_is_refused(model):
    with pytest.raises(OptionError, match="25 tokens: the model takes at most 24"):
        model(np.zeros((1, 25), np.int32))


def test_a_model_survives_its_folder(model, tmp_path):
    model.history_of_training = {"history": [{"epoch": 1}]}
    save_model(model, tmp_path / "new" / "folder")
    opened = open_model(tmp_path / "new" / "folder")
    np.testing.assert_array_equal(model(IDS), opened(IDS))
    assert opened.parameters == TINY
    assert opened.codec == CodecSettings(drum_program=None)
    assert opened.history_of_training == {"history": [{"epoch": 1}]}


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path)
    return tmp_path


def describe(folder, **changes):
    path = folder / "parameters.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "model.weights.h5").unlink(), "holds no model"),
        (lambda f: (f / "parameters.json").unlink(), "holds no model"),
        (lambda f: (f / "parameters.json").write_text("{"), "does not describe a model"),
        (lambda f: (f / "model.weights.h5").write_bytes(b"\x89HDF"), "damaged"),
        (lambda f: describe(f, format_version=99), "format version 99"),
        (lambda f: describe(f, parameters={"num_heads": 3}), "num_heads 3 does not divide"),
        (
            lambda f: describe(f, parameters={**TINY.to_dict(), "embedding_size": 32}),
            "another parameters.json",
        ),
    ],
)
def test_a_damaged_folder_is_a_clear_error(folder, damage, said):
    damage(folder)
    with pytest.raises(ModelError, match=said) as error:
        open_model(folder)
    assert folder.name in str(error.value)


def test_no_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        open_model(tmp_path / "nowhere")


def test_a_failed_save_leaves_the_model_before(folder, model, monkeypatch):
    before = (folder / "model.weights.h5").read_bytes()

    def full_disk(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(model), "save_weights", lambda self, path: full_disk(path))
    with pytest.raises(ModelError, match=f"{folder.name} can't be written.*No space"):
        save_model(model, folder)
    assert (folder / "model.weights.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["model.weights.h5", "parameters.json"]
    open_model(folder)


def test_a_full_disk_is_seen_beforehand(folder, model, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ModelError, match="1 MiB are not free"):
        save_model(model, folder)
    open_model(folder)


@pytest.fixture(scope="module")
def hearing_model():
    model = build_model(TINY, hears_state=True)
    model.meter_head.meter_kernel.assign(tf.random.stateless_normal((16, NUM_SCORES), (0, 1)))
    return model


def test_the_state_of_the_music_follows_from_the_tokens_alone(hearing_model):
    state = window_features(IDS, hearing_model.codec.drum_program)
    np.testing.assert_allclose(hearing_model(IDS), hearing_model(IDS, state), atol=1e-6)


def test_a_model_hears_what_sounds_and_the_metronome(hearing_model):
    state = window_features(IDS, hearing_model.codec.drum_program)
    others = [
        state._replace(note_ages=np.full_like(state.note_ages, 7)),
        state._replace(program_ages=np.full_like(state.program_ages, 7)),
        state._replace(program=state.program + 1),
        state._replace(level=np.full_like(state.level, 3)),
        state._replace(now_steps=state.now_steps + 1),
        state._replace(beat=np.full_like(state.beat, 0.5)),
    ]
    expected = hearing_model(IDS, state)
    for other in others:
        assert np.abs(hearing_model(IDS, other) - expected).max() > 1e-4


def test_a_model_folder_says_whether_its_model_hears_the_state(hearing_model, model, tmp_path):
    for name, saved in (("hearing", hearing_model), ("plain", model)):
        save_model(saved, tmp_path / name)
        opened = open_model(tmp_path / name)
        assert opened.hears_state == (name == "hearing")
        np.testing.assert_array_equal(opened(IDS), saved(IDS))


def test_the_meter_adds_to_the_logits_by_what_was_played_before_the_window(hearing_model):
    state = window_features(IDS, hearing_model.codec.drum_program)
    beats = state.now_steps / 50
    state = state._replace(**Pulse.of(beats, np.full(beats.shape, 0.02))._asdict())
    without = build_model(TINY, hears_state=True, has_meter_head=False)
    for name, variable in without.weights_by_name().items():
        variable.assign(hearing_model.weights_by_name()[name])
    assert not without.has_meter_head
    difference = (hearing_model(IDS, state) - without(IDS, state)).numpy()
    is_shift = (np.arange(VOCAB_SIZE) >= TIME_SHIFT.first) & (np.arange(VOCAB_SIZE) < PROGRAM.first)
    assert np.abs(difference[..., is_shift]).max() > 0.1
    # A note one bar before the first token, which only `onsets` tells of.
    is_new = np.ones(IDS.shape, bool)
    past_beats = np.full((len(IDS), 1), beats[0, 0] - 4)
    slots = np.full((len(IDS), 1), state.program[0, 0] * 128 + 60)
    onsets = window_onsets(IDS, state, is_new, past_beats, slots)
    difference = (hearing_model(IDS, state, onsets) - hearing_model(IDS, state)).numpy()
    assert np.abs(difference[0, 0, 60]) > 0.01


def test_a_folder_from_before_the_meter_opens_without_it(hearing_model, tmp_path):
    without = build_model(TINY, hears_state=True, has_meter_head=False)
    save_model(without, tmp_path)
    description = json.loads((tmp_path / "parameters.json").read_text())
    del description["has_meter_head"]
    (tmp_path / "parameters.json").write_text(json.dumps(description))
    opened = open_model(tmp_path)
    assert opened.hears_state
    np.testing.assert_array_equal(opened(IDS), without(IDS))


def test_a_folder_from_before_the_state_opens_without_it(model, tmp_path):
    save_model(model, tmp_path)
    description = json.loads((tmp_path / "parameters.json").read_text())
    del description["hears_state"], description["has_meter_head"]
    (tmp_path / "parameters.json").write_text(json.dumps(description))
    np.testing.assert_array_equal(open_model(tmp_path)(IDS), model(IDS))
