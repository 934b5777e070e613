"""The interval of the number of species, beside the exact Poisson-binomial law."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from releve.predict.maps.interval import richness_interval


def exact_quantiles(probs: NDArray[np.float64]) -> tuple[int, int]:
    """Return the least numbers of species that are not exceeded with 5 % and with 95 % probability."""
    law = np.ones(1)
    for p in probs:
        law = np.convolve(law, [1 - p, p])
    below = np.cumsum(law)
    return int(np.argmax(below >= 0.05)), int(np.argmax(below >= 0.95))


def moments(probs_BS: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([(probs_BS**power).sum(axis=1) for power in (1, 2, 3, 4)], axis=1)


def tables() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    return {
        "few and likely": rng.random((40, 8)),
        "as a forest's": rng.random((40, 300)) ** 8,
        "rare ones alone": rng.random((40, 800)) ** 40,
        "hardly any": rng.random((40, 50)) * 0.004,
        "sure ones": 1 - rng.random((40, 60)) ** 5,
        "surely there or not": (rng.random((40, 30)) < 0.4).astype(float),
        "one": rng.random((40, 1)),
        "many": rng.random((10, 2_000)) ** 3,
        "a few sure, many rare": np.hstack([1 - rng.random((40, 5)) * 0.01, rng.random((40, 500)) ** 20]),
    }


@pytest.mark.parametrize("name", tables())
def test_both_ends_are_within_one_of_the_exact_quantiles(name: str) -> None:
    probs_BS = tables()[name]
    found = np.stack(richness_interval(moments(probs_BS)), axis=1)
    exact = np.array([exact_quantiles(probs) for probs in probs_BS])
    assert np.abs(found - exact).max() <= 1, (found - exact).tolist()
    assert (found[:, 0] <= found[:, 1]).all() and (found >= 0).all() and (found == np.round(found)).all()


def test_most_intervals_of_plots_are_exact() -> None:
    probs_BS = np.random.default_rng(1).random((200, 300)) ** 8
    found = np.stack(richness_interval(moments(probs_BS)), axis=1)
    exact = np.array([exact_quantiles(probs) for probs in probs_BS])
    assert (found == exact).mean() > 0.95


def test_what_is_sure_has_no_width() -> None:
    probs_BS = np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert [end.tolist() for end in richness_interval(moments(probs_BS))] == [[3.0, 0.0], [3.0, 0.0]]


def test_the_interval_of_float32_sums_is_that_of_exact_ones() -> None:
    probs_BS = np.random.default_rng(2).random((100, 300)) ** 8
    rough = moments(probs_BS).astype(np.float32).astype(np.float64)
    assert [end.tolist() for end in richness_interval(rough)] == [
        end.tolist() for end in richness_interval(moments(probs_BS))
    ]
