"""Hyperparameters: what is impossible is named, and files of users and of models are read."""

import json

import pytest

from midinet.errors import ParametersError
from midinet.model.parameters import Parameters


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "JSON object"),
        ({"heads": 4}, r"unknown hyperparameter 'heads': known are vocab_size, .*num_heads"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"num_blocks": True}, "num_blocks is True: it must be a whole number"),
        ({"num_blocks": 2.5}, "num_blocks is 2.5: it must be a whole number"),
        ({"embedding_size": 1 << 25}, "embedding_size is 33554432"),
        ({"vocab_size": 500}, "vocab_size is 500: it must be 517"),
        ({"sequence_length": 1}, "sequence_length is 1"),
        ({"dropout": 1}, "dropout is 1"),
        ({"dropout": "0.1"}, "dropout is '0.1': it must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"num_heads": 3}, "num_heads 3 does not divide embedding_size 512"),
    ],
)
def test_impossible_values_are_named(values, message):
    with pytest.raises(ParametersError, match=message):
        Parameters.from_dict(values)


def test_missing_values_have_the_defaults_of_the_released_model():
    assert Parameters.from_dict({"num_blocks": 2}) == Parameters(num_blocks=2)
    assert Parameters().head_dim == 64


def test_a_file_is_read_back_with_a_byte_order_mark_and_from_a_model_folder(tmp_path):
    path, parameters = tmp_path / "parameters.json", Parameters(num_heads=4, dropout=0)
    path.write_text(json.dumps(parameters.to_dict()), encoding="utf-8-sig")
    assert Parameters.load(path) == parameters
    path.write_text(json.dumps({"format_version": 1, "parameters": parameters.to_dict()}))
    assert Parameters.load(path) == parameters


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"parameters\.json can't be read: .*--parameters takes a file"),
        (b"\xff\xfe\x00", r"parameters\.json is not UTF-8 text"),
        (b"{", r"parameters\.json is not JSON"),
        (b'{"dropout": 2}', r"parameters\.json: dropout is 2"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "parameters.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParametersError, match=message):
        Parameters.load(path)
