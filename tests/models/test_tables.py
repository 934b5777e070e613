"""Point values: quantile scores, categories, missing values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata

from releve.data.statistics import NUM_QUANTILES, TableStatistics
from releve.models.tables import LocationEncoder, QuantileScore, TableEncoder

DATE = (torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
END = norm.ppf(0.5 / NUM_QUANTILES)


def quantiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, np.linspace(0, 1, NUM_QUANTILES)).tolist()


def score(table: np.ndarray, values: list[float]) -> np.ndarray:
    return QuantileScore([quantiles(table)])(torch.tensor(values)[:, None])[:, 0].numpy()


def test_scores_are_normal_quantiles_of_the_ranks() -> None:
    values = np.random.default_rng(0).lognormal(size=2000).astype(np.float32)
    ranks = (rankdata(values) - 1) / (len(values) - 1)
    inner = (ranks > 0.02) & (ranks < 0.98)
    np.testing.assert_allclose(score(values, values.tolist())[inner], norm.ppf(ranks[inner]), atol=0.05)


def test_scores_at_the_quantiles_and_halfway_between() -> None:
    table = np.arange(101.0)
    expected = [norm.ppf(0.25), 0.0, norm.ppf(0.9), (norm.ppf(0.6) + norm.ppf(0.61)) / 2]
    np.testing.assert_allclose(score(table, [25.0, 50.0, 90.0, 60.5]), expected, atol=1e-6)


def test_values_beyond_those_of_training_are_held_at_the_ends() -> None:
    table = np.arange(101.0)
    found = score(table, [0.0, -5.0, -torch.inf, 100.0, 1e9, torch.inf])
    np.testing.assert_allclose(found, [END] * 3 + [-END] * 3, atol=1e-5)


def test_a_tied_value_gets_the_middle_of_its_ranks_and_missing_stays_missing() -> None:
    table = np.repeat([0.0, 1.0], [60, 41])  # ranks 0 to .59 and .60 to 1
    found = score(table, [0.0, 1.0, float("nan")])
    np.testing.assert_allclose(found[:2], [(END + norm.ppf(0.59)) / 2, (norm.ppf(0.60) - END) / 2], atol=1e-5)
    assert np.isnan(found[2])


def test_a_constant_column_says_nothing() -> None:
    assert score(np.full(50, 3.0), [3.0, 2.0, 1e6]).tolist() == [0.0, 0.0, 0.0]


def test_scores_keep_the_order_of_values() -> None:
    table = np.random.default_rng(1).integers(0, 20, 500).astype(float)
    assert (np.diff(score(table, np.linspace(-1, 21, 300).tolist())) >= 0).all()


def statistics(*, codes: list[float] | None = None) -> TableStatistics:
    return TableStatistics(
        columns=("warmth", "never", "cover"),
        categorical=("cover",),
        quantiles={"warmth": quantiles(np.arange(101.0))},
        codes={"cover": [2.0, 5.0] if codes is None else codes},
    )


def encoder(**options: list[float]) -> TableEncoder:
    torch.manual_seed(0)
    return TableEncoder(statistics(**options), 8, 0.0, 0.0).eval()


def test_unknown_and_missing_categories_are_alike_and_known_ones_differ() -> None:
    found = encoder()(torch.tensor([[5.0, 0, c] for c in (2.0, 5.0, 9.0, torch.nan)]), *DATE)
    assert torch.equal(found[2], found[3])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_missing_number_differs_from_the_median_and_a_column_never_seen_is_not_read() -> None:
    found = encoder()(torch.tensor([[50.0, 0, 2], [torch.nan, 0, 2], [50.0, 1e9, 2], [50.0, torch.nan, 2]]), *DATE)
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], found[3])


def test_a_table_without_numbers_or_without_known_categories_is_encoded() -> None:
    only_categories = statistics().model_copy(update={"quantiles": {}})
    assert TableEncoder(only_categories, 8, 0.0, 0.0)(torch.ones(2, 3), *DATE).shape == (2, 8)
    assert encoder(codes=[])(torch.ones(2, 3), *DATE).shape == (2, 8)


def test_input_dropout_hides_columns_in_training_only() -> None:
    model = TableEncoder(statistics(), 8, 0.0, 0.5)
    values = torch.tensor([[10.0, 0, 2]]).repeat(200, 1)
    hidden = model.eval()(torch.tensor([[torch.nan, 0, torch.nan]]), *DATE)
    assert torch.equal(model(values, *DATE), model(values, *DATE))
    in_training = model.train()(values, *DATE)
    share = torch.isclose(in_training, hidden, atol=1e-6).all(dim=1).float().mean()
    assert share == pytest.approx(0.25, abs=0.1)


def test_location_is_scaled_by_the_training_extent_and_held_near_it() -> None:
    table = TableStatistics(
        columns=("lon", "lat"),
        categorical=(),
        quantiles={"lon": quantiles(np.array([0.0, 10.0])), "lat": quantiles(np.array([40.0, 44.0]))},
        codes={},
    )
    for num_waves in (0, 3):
        model = LocationEncoder(table, 8, 0.0, num_waves).eval()
        found = model(torch.tensor([[12.5, 42.0], [80.0, 42.0], [5.0, 42.0]]), *DATE)
        torch.testing.assert_close(found[0], found[1])
        assert not torch.allclose(found[0], found[2])
    assert model.frequencies.tolist() == pytest.approx([np.pi / 2, np.pi, 2 * np.pi])
