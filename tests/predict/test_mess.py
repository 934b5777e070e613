"""MESS: similarities worked out by hand, against the definition of Elith et al., ties, classes and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from releve.predict.mess import LEAST, beyond, least, similarity_of_classes, similarity_of_numbers


def similarities(values: list[float], quantiles: np.ndarray) -> list[float]:
    table = torch.from_numpy(quantiles).float()[None]
    return similarity_of_numbers(torch.tensor(values)[:, None], table).flatten().tolist()


def test_similarity_is_by_rank_inside_and_by_share_of_the_range_outside() -> None:
    """Rows from -10 to 10: 5 stands above three quarters of them, 14 lies a fifth of the range outside."""
    even = np.linspace(-10, 10, 101)
    assert similarities([0.0, 5.0, -9.0, 10.0, 14.0, -11.0], even) == pytest.approx([100, 50, 10, 0, -20, -5], abs=1e-3)


def test_similarities_are_those_of_the_definition() -> None:
    """f: the share of the reference points that are smaller, in %; 2 f up to half, 200 - 2 f above, else by range."""
    rng = np.random.default_rng(0)
    reference, values = rng.gamma(2.0, 3.0, 20_001), rng.gamma(2.0, 8.0, 200)
    share = 100 * (reference < values[:, None]).mean(axis=1)
    expected = np.where(share <= 50, 2 * share, 200 - 2 * share)
    expected = np.where(values > reference.max(), 100 * (reference.max() - values) / np.ptp(reference), expected)
    found = similarities(values.tolist(), np.quantile(reference, np.linspace(0, 1, 101)))
    np.testing.assert_allclose(found, expected, atol=2)  # ranks are known at 101 points: to a hundredth in the tail
    np.testing.assert_allclose(np.array(found)[expected > 3], expected[expected > 3], atol=0.3)
    assert ((expected < 0) == (np.array(found) < 0)).all() and (expected < 0).any()


def test_a_value_that_most_rows_have_is_in_the_middle_of_them_and_not_at_the_end() -> None:
    """60 of 100 rows without rain: no rain has rank .3, the highest rain 0."""
    quantiles = np.r_[np.zeros(61), np.arange(1.0, 41.0)]
    assert similarities([0.0, 40.0, -4.0], quantiles) == pytest.approx([60.0, 0.0, -10.0])


def test_of_a_constant_only_its_value_is_known_and_nothing_is_below_the_least() -> None:
    assert similarities([3.0, 3.1, float("inf"), float("nan")], np.full(101, 3.0))[:3] == [100.0, LEAST, LEAST]
    assert np.isnan(similarities([float("nan")], np.full(101, 3.0)))[0]


def test_classes_are_known_or_not() -> None:
    codes = torch.tensor([[1.0, 7.0], [2.0, torch.nan], [4.0, 8.0]])
    expected = [[100.0, 100.0], [-100.0, torch.nan], [100.0, -100.0]]
    np.testing.assert_array_equal(similarity_of_classes(codes, ((1.0, 4.0), (7.0,))), expected)
    assert similarity_of_classes(codes[:, :0], ()).shape == (3, 0)


def test_the_least_similarity_leaves_out_what_is_missing() -> None:
    nan = torch.nan
    found, which = least(torch.tensor([[5.0, nan, -2.0], [nan, nan, nan], [nan, 3.0, 3.0]]))
    np.testing.assert_array_equal(found, [-2.0, nan, 3.0])
    assert which.tolist() == [2, -1, 1]
    found, which = least(torch.zeros(2, 0))
    assert torch.isnan(found).all() and which.tolist() == [-1, -1]


def test_beyond_is_the_distance_to_the_range() -> None:
    quantiles = torch.tensor([[0.0, 1.0, 4.0]])
    values = torch.tensor([[-2.0], [2.0], [4.5], [torch.nan]])
    assert beyond(values, quantiles).flatten().tolist() == [2.0, 0.0, 0.5, 0.0]
