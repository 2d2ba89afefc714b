"""Random numbers of windows look random, and are the same whatever windows are made together."""

from __future__ import annotations

import numpy as np
import pytest

from midinet.data.draws import Draws

ROWS = np.repeat(np.arange(100), 100)


@pytest.mark.parametrize(
    "numbers",
    [
        Draws(range(10_000)).uniform("tempo"),
        Draws(range(100)).each(ROWS).uniform("tempo"),
        Draws([7]).each(np.zeros(10_000, int)).uniform("tempo"),
    ],
    ids=["windows", "notes of windows", "notes of a window"],
)
def test_numbers_are_uniform_and_say_nothing_of_each_other(numbers):
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, 10, (0, 1))
    assert np.abs(counts - 1000).max() < 150  # five standard deviations
    for distance in (1, 2, 99, 100):
        assert abs(np.corrcoef(numbers[distance:], numbers[:-distance])[0, 1]) < 0.05


def test_each_purpose_has_numbers_of_its_own():
    draws = Draws(range(10_000))
    one, other = draws.uniform("tempo"), draws.uniform("loudness")
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
    np.testing.assert_array_equal(draws.uniform("tempo"), one)


def test_a_windows_numbers_do_not_depend_on_the_other_windows():
    together = Draws([3, 5]).each(np.array([0, 0, 1, 1, 1])).uniform("missing")
    alone = Draws([5]).each(np.array([0, 0, 0])).uniform("missing")
    np.testing.assert_array_equal(together[2:], alone)


def test_whole_numbers_include_both_ends():
    numbers, counts = np.unique(Draws(range(3000)).integers("key", -1, 1), return_counts=True)
    assert numbers.tolist() == [-1, 0, 1]
    assert counts.min() > 850
