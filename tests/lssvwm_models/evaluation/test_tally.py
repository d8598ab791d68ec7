"""Counting counts, and its intervals hold."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_models.evaluation.tally import Tally, estimates, precision_recall_f1


def test_precision_recall_and_f1_by_hand() -> None:
    truth = np.array([[1, 1, 0, 0], [0, 1, 0, 1]], bool)
    said = np.array([[1, 0, 0, 1], [0, 1, 1, 1]], bool)
    where = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    found = {name: tally.estimate() for name, tally in precision_recall_f1(said, truth, where).items()}
    assert (found["precision"]["value"], found["precision"]["n"]) == (2 / 4, 4)
    assert (found["recall"]["value"], found["recall"]["n"]) == (2 / 3, 3)
    assert found["f1"]["value"] == pytest.approx(4 / 7)


def test_an_event_that_never_occurs_has_no_f1() -> None:
    never = np.zeros((2, 3), bool)
    assert precision_recall_f1(never, never)["f1"].estimate() == {"value": None, "low": None, "high": None, "n": 0}
    assert precision_recall_f1(~never, never)["f1"].estimate()["value"] == 0


def test_intervals_are_over_sequences() -> None:
    same = Tally(np.full((8, 5), 1.0), np.full((8, 5), 2.0)).estimate()
    assert same == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 80}
    right = np.random.default_rng(0).random((200, 1)) < 0.3
    estimate = Tally.of(np.repeat(right, 100, 1), np.ones((200, 100), bool)).estimate()  # all frames alike
    width = estimate["high"] - estimate["low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.3 * 0.7 / 200), rel=0.2)


def test_tallies_by_frame() -> None:
    tally = Tally(np.array([[1.0, 0, 0], [0, 0, 0]]), np.array([[1.0, 1, 0], [1, 1, 0]]))
    assert tally.per_frame() == [0.5, 0.0, None]
    assert tally.only(np.array([[True, False, False], [False, True, True]])).estimate()["value"] == 0.5


@pytest.mark.parametrize(("sequences", "least"), [(1, 0.025), (9, 0.6637), (32, 0.8911), (200, 0.9817)])
def test_where_all_is_right_the_bound_is_exact_and_each_sequence_counts_once(sequences: int, least: float) -> None:
    right = np.full((sequences, 5), 7.0)
    found = Tally(right, right).estimate()
    assert found == {"value": 1.0, "low": pytest.approx(least, abs=5e-5), "high": 1.0, "n": 35 * sequences}
    found = Tally(0 * right, right).estimate()
    assert found == {"value": 0.0, "low": 0.0, "high": pytest.approx(1 - least, abs=5e-5), "n": 35 * sequences}


def test_sequences_in_which_nothing_counts_are_no_evidence() -> None:
    count = np.zeros((100, 4))
    count[:9, 0] = 1
    assert Tally(count, count).estimate()["low"] == pytest.approx(0.6637, abs=5e-5)


def test_estimates_are_seen_through_a_view() -> None:
    tally = Tally(np.array([[1.0, 0], [1, 0]]), np.ones((2, 2)))
    last = np.array([[False, True], [False, True]])
    assert estimates({"share": tally}, lambda t: t.only(last))["share"]["value"] == 0.0
    assert estimates({"share": tally})["share"]["value"] == 0.5
