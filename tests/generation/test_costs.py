"""What is said before much is composed."""

from __future__ import annotations

import pytest

from midinet.generation.costs import describe_cost
from midinet.generation.request import Limit
from midinet.model.parameters import Parameters

SMALL = Parameters(embedding_size=256, num_blocks=4, sequence_length=1024)


@pytest.mark.parametrize("limit", [Limit(2500, None), Limit(60_001, 60.0)])
@pytest.mark.parametrize("num", [1, 16])
def test_nothing_is_said_of_a_few_pieces(num, limit):
    assert describe_cost(SMALL, num, 512, limit) is None


def test_the_memory_of_many_pieces_is_named():
    # A key and a value, 4 bytes each, for 1000 pieces of 1024 tokens in 4 blocks, 256 wide.
    assert "1,000 pieces take at least 8.4 GB" in describe_cost(SMALL, 1000, 0, Limit(2500, None))
    # A window that is never full needs less.
    assert "take at least 1.6 GB" in describe_cost(SMALL, 1000, 100, Limit(100, None))


def test_the_length_of_much_music_is_named():
    said = describe_cost(SMALL, 1, 0, Limit(100_000_000, None))
    assert said.startswith("100,000,000 tokens are about 427 hours of music: the progress bar")
    assert "about 10 hours" in describe_cost(SMALL, 1, 0, Limit(36_000_001, 36_000.0))
