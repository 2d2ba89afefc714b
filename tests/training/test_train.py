"""Training as a user of the package meets it: it learns, and nothing is lost when it stops."""

import dataclasses
import json
import signal

import numpy as np
import pytest

from midinet import preprocess
from midinet.backend import tf
from midinet.codec.vocabulary import KINDS, PAD
from midinet.data.batches import Windows
from midinet.data.corpus import open_corpus
from midinet.data.pipeline import dataset as batches_of
from midinet.data.tempi import song_tempos_bpm
from midinet.errors import MidinetError, OptionError, TrainingError
from midinet.model.music_transformer import build_model, open_model, save_model
from midinet.model.parameters import Parameters
from midinet.training.checkpoints import Checkpoints
from midinet.training.devices import BatchSharding
from midinet.training.loop import state_and_onsets
from midinet.training.metrics import MetricSums, loss_and_accuracy_sums
from midinet.training.optimizer import Adam, clip, learning_rate
from midinet.training.steps import StepResult, Steps, next_loss_scale
from midinet.training.train import TrainingInterrupted, _resume_command, train
from tests.conftest import make_song

NO_LOSSES = (0.0,) * len(KINDS)


def sums_of_loss(loss):
    """The sums over one token of this loss."""
    return MetricSums(0.0, (loss, *NO_LOSSES[1:]), (1.0, *NO_LOSSES[1:]))


TINY = Parameters(
    embedding_size=16,
    sequence_length=32,
    num_blocks=1,
    num_heads=2,
    feed_forward_dim=32,
    learning_rate=0.01,
    batch_size=16,
)
EPOCHS = 2


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A folder in which a run went through, and its history."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    return folder, train(EPOCHS, folder, dataset, parameters=TINY)


def final_weights(folder):
    return Checkpoints(folder / "checkpoints").load()[1]


def values(folder, tag):
    """Step -> what TensorBoard's logs hold under a tag; later files win, as later runs do."""
    found = {}
    for file in sorted(folder.glob("events*"), key=lambda path: path.stat().st_mtime):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == tag:
                    found[event.step] = value
    return found


def scalars(folder, tag):
    """Step -> number."""
    return {
        step: float(tf.make_ndarray(value.tensor)) for step, value in values(folder, tag).items()
    }


def test_training_learns(trained):
    _, history = trained
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert history[0]["loss"] < np.log(TINY.vocab_size)  # better than knowing nothing
    assert history[1]["loss"] < history[0]["loss"]
    assert history[1]["val_loss"] < history[0]["val_loss"]
    assert 0 < history[1]["val_accuracy"] < 1
    assert history[1]["learning_rate"] < history[0]["learning_rate"] < TINY.learning_rate


def test_the_folder_holds_the_best_model(trained, dataset):
    folder, history = trained
    model, corpus = open_model(folder), open_corpus(dataset)
    # Window by window, in numpy: the validation loss is over real tokens, however batched.
    windows = Windows(corpus, corpus.split()[1], TINY.sequence_length)
    losses = []
    for number in range(len(windows)):
        batch = windows.batch(number, 1)
        _, targets, weights, *_ = batch
        heard = state_and_onsets(batch, corpus.codec.drum_program)
        logits = model(batch.inputs, *heard).numpy()[0].astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.extend(-log_probabilities[weights[0] == 1, targets[0, weights[0] == 1]])
    best = min(entry["val_loss"] for entry in history)
    assert np.mean(losses) == pytest.approx(best, rel=1e-5)
    assert model.parameters == TINY
    assert model.codec == corpus.codec
    assert model.history_of_training["history"] == history


def test_the_run_can_be_seen(trained):
    folder, history = trained
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    steps = history[-1]["step"]
    assert list(scalars(folder / "logs" / "train", "batch_loss")) == list(range(1, steps + 1))
    for log, name, key in (("train", "loss", "loss"), ("validation", "accuracy", "val_accuracy")):
        seen = scalars(folder / "logs" / log, f"epoch_{name}")
        assert list(seen.values()) == pytest.approx([entry[key] for entry in history])
    for tag in ("learning_rate", "tokens_per_second"):
        assert scalars(folder / "logs" / "train", tag)
    samples = values(folder / "logs" / "train", "sample")
    assert list(samples) == [entry["step"] for entry in history]
    for sample in samples.values():
        width, height, picture = tf.make_ndarray(sample.tensor)
        assert int(width) > 100
        assert int(height) > 100
        assert picture.startswith(b"\x89PNG")


class KilledError(Exception):
    """Stands for SIGKILL: nothing in the package catches it."""


def kill_at(step):
    """A training step that dies, after its work, when the run reaches `step`."""
    train_step = Steps.train

    def dying(self, batch, rate, number, *rest):
        result = train_step(self, batch, rate, number, *rest)
        if number == step:
            raise KilledError
        return result

    return dying


@pytest.mark.usefixtures("without_pictures")
def test_a_killed_run_resumes_as_if_nothing_had_happened(trained, dataset, tmp_path, monkeypatch):
    folder, history = trained
    steps_an_epoch = history[0]["step"]
    # Inside an epoch; in the next; and before the first checkpoint of a restored run.
    options = {"restore": True, "parameters": TINY, "checkpoint_every_minutes": 0}
    for step in (steps_an_epoch // 2, steps_an_epoch + 1, steps_an_epoch + 2):
        with monkeypatch.context() as patch:  # what `without_pictures` does stays in force
            patch.setattr(Steps, "train", kill_at(step))
            with pytest.raises(KilledError):
                train(EPOCHS, tmp_path, dataset, **options)
    again = train(EPOCHS, tmp_path, dataset, **options)
    for entry, expected in zip(again, history, strict=True):
        for name in entry.keys() - {"tokens_per_second"}:
            assert entry[name] == pytest.approx(expected[name], abs=1e-6)
    logs = "logs/train"
    assert scalars(tmp_path / logs, "batch_loss") == pytest.approx(
        scalars(folder / logs, "batch_loss"), abs=1e-6
    )
    weights = final_weights(tmp_path)
    for name, array in final_weights(folder).items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.fixture
def without_steps(monkeypatch):
    """Steps of training and validation take no time, and change no weight."""
    monkeypatch.setattr(Steps, "train", lambda *_: StepResult(sums_of_loss(1.0), 1.0))
    monkeypatch.setattr(Steps, "validate", lambda *_: sums_of_loss(1.0))


@pytest.mark.usefixtures("without_steps")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_resume(dataset, tmp_path, monkeypatch, number):
    train_step, handler = Steps.train, signal.getsignal(signal.SIGINT)

    def interrupted(self, batch, rate, step, *rest):
        if step == 2:
            signal.raise_signal(number)
        return train_step(self, batch, rate, step, *rest)

    monkeypatch.setattr(Steps, "train", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"train.py -e 2 .* --restore") as stop:
        train(EPOCHS, tmp_path, dataset, parameters=TINY)
    assert stop.value.signal_number == number
    assert Checkpoints(tmp_path / "checkpoints").load()[0].step == 3
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("without_pictures", "without_steps")
def test_a_run_can_be_made_longer(trained, dataset, tmp_path, capsys):
    folder, history = trained
    state, arrays = Checkpoints(folder / "checkpoints").load()
    Checkpoints(tmp_path / "checkpoints").save(state, arrays)
    assert train(EPOCHS, tmp_path, dataset, restore=True, parameters=TINY) == history
    said = capsys.readouterr().out
    assert f"is resumed after {EPOCHS} epochs" in said
    assert f"a larger -e than {EPOCHS} trains it further" in said
    assert f"Epochs done: {EPOCHS} of {EPOCHS}. The best model is in {tmp_path}" in said
    longer = train(EPOCHS + 1, tmp_path, dataset, restore=True, parameters=TINY)
    assert longer[:EPOCHS] == history
    assert longer[EPOCHS]["epoch"] == EPOCHS + 1


@pytest.mark.usefixtures("without_pictures", "without_steps")
def test_patience_ends_a_run(dataset, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0])
    monkeypatch.setattr(
        "midinet.training.loop.Trainer._validate", lambda self: sums_of_loss(next(losses))
    )
    history = train(9, tmp_path, dataset, parameters=TINY, patience=2)
    assert [entry["val_loss"] for entry in history] == [3.0, 2.0, 2.5, 2.0]
    kept = open_model(tmp_path).history_of_training["history"]
    assert kept[-1]["val_loss"] == 2.0
    assert len(kept) == 2
    assert train(9, tmp_path, dataset, restore=True, parameters=TINY, patience=2) == history


@pytest.mark.usefixtures("without_pictures")
def test_fine_tuning_starts_from_a_models_weights(trained, dataset, tmp_path):
    folder, history = trained
    gentle = dataclasses.replace(TINY, learning_rate=1e-6, dropout=0.0)
    tuned = train(1, tmp_path, dataset, parameters=gentle, init_from=folder)
    best = min(entry["val_loss"] for entry in history)
    assert tuned[0]["val_loss"] == pytest.approx(best, abs=0.01)


@pytest.mark.usefixtures("without_pictures", "without_steps")
@pytest.mark.parametrize("longer", [2.0, 0.5])
def test_a_model_goes_on_with_windows_of_another_length(trained, dataset, tmp_path, longer):
    folder, _ = trained
    length = int(TINY.sequence_length * longer)
    other = dataclasses.replace(TINY, sequence_length=length)
    train(1, tmp_path, dataset, parameters=other, init_from=folder)
    before, after = open_model(folder), open_model(tmp_path)
    assert after.parameters.sequence_length == length
    tokens = np.random.default_rng(0).integers(0, TINY.vocab_size, (1, length))
    both = tokens[:, : TINY.sequence_length]
    np.testing.assert_allclose(after(both), before(both), atol=1e-5)
    if longer > 1:
        # What lies beyond the old window counts as its far end: not as noise.
        rows = after.weights_by_name()["block_0/relative_embedding"].numpy()
        np.testing.assert_array_equal(rows[0], rows[length - TINY.sequence_length])
        places = after.weights_by_name()["position_embedding"].numpy()
        np.testing.assert_array_equal(places[-1], places[TINY.sequence_length - 1])


def test_a_loss_that_is_no_number_stops_and_keeps_what_was_good(dataset, tmp_path):
    broken = build_model(TINY)
    broken.weights_by_name()["logits/kernel"].assign(tf.fill((16, TINY.vocab_size), np.inf))
    save_model(broken, tmp_path / "broken")
    with pytest.raises(TrainingError, match=r"loss became .*epoch 1.*smaller learning_rate"):
        train(1, tmp_path / "new", dataset, parameters=TINY, init_from=tmp_path / "broken")
    assert Checkpoints(tmp_path / "new" / "checkpoints").load()[0].step == 0
    assert not (tmp_path / "new" / "model.weights.h5").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "already holds a run: --restore resumes it"),
        ({"restore": True, "seed": 5}, "seed was 0 and is 5"),
        (
            {"restore": True, "parameters": dataclasses.replace(TINY, dropout=0.5)},
            r"dropout was 0.1 and is 0.5.*--init_from",
        ),
    ],
)
def test_a_folder_in_use_is_refused(trained, dataset, options, said):
    folder, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(TrainingError, match=said):
        train(3, folder, dataset, **{"parameters": TINY, **options})
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_data_set_is_refused(trained, dataset, tmp_path):
    for name in ("tokens.npy", "offsets.npy", "tempo_maps.npy", "dataset.json"):
        (tmp_path / name).write_bytes((dataset / name).read_bytes())
    description = json.loads((tmp_path / "dataset.json").read_text())
    description["codec"]["sustain"] = False
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(TrainingError, match="sustain was True and is False"):
        train(3, trained[0], tmp_path, restore=True, parameters=TINY)


def test_a_model_without_checkpoints_is_not_overwritten(dataset, tmp_path):
    save_model(build_model(TINY), tmp_path)
    for restore in (False, True):
        with pytest.raises(TrainingError, match=f"--init_from {tmp_path}"):
            train(1, tmp_path, dataset, restore, parameters=TINY)


def test_another_shape_can_not_be_fine_tuned(trained, dataset, tmp_path):
    other = dataclasses.replace(TINY, num_blocks=2)
    with pytest.raises(TrainingError, match="num_blocks was 1 and is 2"):
        train(1, tmp_path / "new", dataset, parameters=other, init_from=trained[0])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"checkpoint_every_minutes": float("nan")}, "checkpoint_every is nan"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"parameters": "no/such.json"}, "no/such.json"),
        ({"dataset": "nowhere"}, "nowhere"),
    ],
)
def test_options_that_make_no_sense(dataset, tmp_path, options, said):
    arguments = {"epochs": 1, "dataset": dataset, "parameters": TINY, **options}
    with pytest.raises(MidinetError, match=said) as error:
        train(save_directory=tmp_path / "new", **arguments)
    assert isinstance(error.value, OptionError) or "nowhere" in said or "such" in said
    assert not (tmp_path / "new").exists()


def test_without_parameters_those_of_the_current_folder_count_else_the_built_in_ones(
    dataset, tmp_path, monkeypatch
):
    class BuiltError(Exception):
        """Stops before the training, for the built-in model is large."""

    def build(parameters, *_, **__):
        raise BuiltError(parameters)

    monkeypatch.setattr("midinet.training.train.build_model", build)
    monkeypatch.chdir(tmp_path)
    for expected in (Parameters(), TINY):
        with pytest.raises(BuiltError) as built:
            train(1, tmp_path / "model", dataset)
        assert built.value.args == (expected,)
        (tmp_path / "parameters.json").write_text(json.dumps(TINY.to_dict()))


def test_padding_counts_in_no_loss_and_no_metric():
    logits = tf.math.log([[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]])
    targets, weights = tf.constant([[0, 2, 0]]), tf.constant([[1.0, 1.0, 0.0]])
    numbers = loss_and_accuracy_sums(logits, targets, weights).numpy()
    sums = MetricSums.from_numbers(numbers.tolist())
    assert sums.correct == 1
    assert sums.tokens == 2
    assert sums.mean_loss == pytest.approx((-np.log(0.7) - np.log(0.3)) / 2)


def test_the_loss_is_told_by_kind_of_token_and_per_note():
    targets = np.array([[400, 270, 60, 300, 188, 62, PAD, 5]])  # the last one does not count
    weights = np.array([[1, 1, 1, 1, 1, 1, 1, 0]], np.float32)
    # The model gives each right token a probability of its own.
    right = np.array([0.5, 0.25, 0.125, 0.5, 0.0625, 0.5, 0.25, 0.5])
    probabilities = np.repeat(((1 - right) / PAD)[:, None], PAD + 1, axis=1)
    probabilities[np.arange(8), targets[0]] = right
    logits = tf.constant(np.log(probabilities)[None], tf.float32)
    numbers = loss_and_accuracy_sums(logits, tf.constant(targets, tf.int32), tf.constant(weights))
    sums = MetricSums.from_numbers(numbers.numpy().tolist())
    bits = {"NOTE_ON": 2, "NOTE_OFF": 4, "VELOCITY": 2, "TIME_SHIFT": 1, "PROGRAM": 1, "PAD": 2}
    expected = {kind: number * np.log(2) for kind, number in bits.items()}
    assert sums.loss_by_kind() == pytest.approx(expected, rel=1e-5)
    assert sums.loss_per_note == pytest.approx(14 * np.log(2) / 2, rel=1e-5)
    assert (sums + sums).loss_by_kind() == pytest.approx(expected, rel=1e-5)
    assert MetricSums.from_numbers(sums.to_numbers()) == sums


@pytest.mark.parametrize("message", ["libdevice not found at ./libdevice.10.bc", "No ptxas"])
def test_a_gpu_for_which_xla_cant_compile_trains_without_it(dataset, message):
    strategy = tf.distribute.get_strategy()
    model = build_model(TINY)
    adam = Adam([variable.value for variable in model.trainable_variables])
    steps = Steps(model, adam, strategy, BatchSharding(strategy, TINY.batch_size), xla=True)

    def fail(*_):
        raise tf.errors.InternalError(None, None, message)

    steps._train_step = steps._validation_step = fail
    corpus = open_corpus(dataset)
    windows = Windows(corpus, range(len(corpus)), TINY.sequence_length)
    batch = next(iter(batches_of(windows, TINY.batch_size)))
    with pytest.warns(UserWarning, match="XLA can't compile for this GPU"):
        result = steps.train(batch, 0.01, 0, 0, 1.0)
    assert 0 < result.sums.mean_loss < 10
    assert steps.validate(batch).mean_loss < result.sums.mean_loss


def test_other_errors_of_a_step_are_not_hidden():
    strategy = tf.distribute.get_strategy()
    model = build_model(TINY)
    adam = Adam([variable.value for variable in model.trainable_variables])
    steps = Steps(model, adam, strategy, BatchSharding(strategy, TINY.batch_size), xla=True)

    def fail(*_):
        raise tf.errors.InternalError(None, None, "something else")

    steps._train_step = fail
    with pytest.raises(tf.errors.InternalError, match="something else"):
        steps.train((), 0.01, 0, 0, 1.0)


@pytest.mark.usefixtures("without_pictures")
def test_a_plain_model_that_is_trained_further_begins_as_it_was(dataset, tmp_path):
    frozen = dataclasses.replace(TINY, learning_rate=1e-30)
    train(1, tmp_path / "plain", dataset, parameters=frozen, plain=True)
    plain = open_model(tmp_path / "plain")
    assert not plain.hears_state
    train(1, tmp_path / "new", dataset, parameters=frozen, init_from=tmp_path / "plain")
    new = open_model(tmp_path / "new")
    assert new.hears_state
    assert new.has_meter_head
    tokens = open_corpus(dataset).song(0)[None, : TINY.sequence_length]
    np.testing.assert_array_equal(new(tokens), plain(tokens))
    with pytest.raises(TrainingError, match="leave --plain out"):
        train(1, tmp_path / "n", dataset, parameters=TINY, plain=True, init_from=tmp_path / "new")


@pytest.mark.parametrize("newer", ["hears_state", "windows"])
def test_a_run_of_an_older_version_is_not_resumed_with_other_batches(
    trained, dataset, tmp_path, newer
):
    state, arrays = Checkpoints(trained[0] / "checkpoints").load()
    del state.identity[newer]
    Checkpoints(tmp_path / "checkpoints").save(state, arrays)
    with pytest.raises(TrainingError, match=r"older version of midinet.*--init_from"):
        train(3, tmp_path, dataset, restore=True, parameters=TINY)


@pytest.mark.usefixtures("without_pictures")
def test_a_run_from_before_the_meter_is_resumed_without_it(trained, dataset, tmp_path):
    state, arrays = Checkpoints(trained[0] / "checkpoints").load()
    del state.identity["has_meter_head"]
    arrays = {name: array for name, array in arrays.items() if "meter" not in name}
    Checkpoints(tmp_path / "checkpoints").save(state, arrays)
    train(len(trained[1]) + 1, tmp_path, dataset, restore=True, parameters=TINY)
    state, arrays = Checkpoints(tmp_path / "checkpoints").load()
    assert state.epoch == len(trained[1]) + 1
    assert not any("meter" in name for name in arrays)


def test_the_model_keeps_the_tempos_of_its_training_songs(trained, dataset):
    corpus = open_corpus(dataset)
    tempos = open_model(trained[0]).history_of_training["tempi_bpm"]
    assert tempos == song_tempos_bpm(corpus, corpus.split()[0])
    assert len(tempos) == sum(corpus.grid_shares[song] >= 0.8 for song in corpus.split()[0])


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(1.0, step, step / 1000) for step in range(1000)]
    peak = int(np.argmax(rates))
    assert rates[0] < 0.03
    assert 10 < peak < 200
    assert rates[peak] == pytest.approx(1, abs=0.05)
    assert (np.diff(rates[:peak]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-4


def test_gradients_are_clipped_by_their_common_norm():
    clipped, norm = clip([tf.constant([3.0, 0.0]), tf.constant([[4.0]])])
    assert norm == 5
    np.testing.assert_allclose(clipped[0], [0.6, 0])
    np.testing.assert_allclose(clip([tf.constant([0.3])])[0], [[0.3]])


def test_an_update_left_out_changes_nothing():
    variable = tf.Variable([1.0, 2.0])
    adam = Adam([variable])
    everything = [variable, *adam.first_moments, *adam.second_moments]
    rate, gradient = tf.constant(0.1), tf.constant([1.0, -2.0])
    adam.apply([gradient], rate, tf.constant(0), apply_update=tf.constant(True))
    # The first step is as long as the rate, whatever the gradient's size.
    np.testing.assert_allclose(variable, [0.9, 2.1], rtol=1e-5)
    before = [v.numpy() for v in everything]
    adam.apply([gradient * np.nan], rate, tf.constant(1), apply_update=tf.constant(False))
    for variable, value in zip(everything, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_the_loss_scale_falls_at_an_overflow_and_rises_after_calm():
    assert next_loss_scale(1.0, 0, True) == (1.0, 0)
    assert next_loss_scale(64.0, 10, False) == (32.0, 0)
    assert next_loss_scale(64.0, 10, True) == (64.0, 11)
    assert next_loss_scale(64.0, 999, True) == (128.0, 0)


def test_the_resume_command_names_the_options_that_are_not_the_defaults():
    options = {"parameters": "p.json", "patience": None, "checkpoint_every_minutes": 5.0}
    way = _resume_command(3, "my model", "data", **options, precision="float32", save_memory=True)
    assert way == (
        "resume with: python train.py -e 3 -s 'my model' -d data --restore "
        "--parameters p.json --precision float32 --save_memory"
    )
    options["parameters"] = Parameters()  # no file that a command could name
    way = _resume_command(3, "m", "data", **options, precision="auto", save_memory=False)
    assert way == "resume with: python train.py -e 3 -s m -d data --restore"


@pytest.mark.usefixtures("without_pictures", "without_steps")
def test_validation_on_the_training_song_is_said(tmp_path, capsys):
    (tmp_path / "music").mkdir()
    make_song(1).save(tmp_path / "music" / "only.mid")
    preprocess(tmp_path / "music", tmp_path / "data", workers=1, quiet=True)
    train(1, tmp_path / "model", tmp_path / "data", parameters=TINY)
    assert "Validation uses the training song" in capsys.readouterr().out


@pytest.mark.usefixtures("without_pictures", "without_steps")
def test_compiling_for_a_gpu_is_announced(dataset, tmp_path, capsys, monkeypatch):
    train(1, tmp_path / "on_cpu", dataset, parameters=TINY)
    assert "Compiling" not in capsys.readouterr().out
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    train(1, tmp_path / "on_gpu", dataset, parameters=TINY)
    assert "on 1 GPU: 1 epoch" in (said := capsys.readouterr().out)
    assert "Compiling for the GPU comes first" in said
