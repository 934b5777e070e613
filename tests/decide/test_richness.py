"""The number of species: moments, the law of independent species, and an interval that held-out plots keep to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from releve.decide.richness import COVERAGE, Widening, fit_widening, moments_of, richness_interval
from releve.lists import Lists


def exact_quantile(probs: np.ndarray, share: float) -> int:
    """Return the least number whose cumulative Poisson-binomial probability reaches a share, by convolution."""
    law = np.ones(1)
    for p in probs:
        law = np.convolve(law, [1 - p, p])
    return int(np.searchsorted(np.cumsum(law), share - 1e-12))


@pytest.mark.parametrize(("shift", "scale"), [(-4.0, 2.0), (-2.0, 1.0), (0.0, 3.0), (-7.0, 2.5)])
def test_the_interval_of_independent_species_is_within_one_of_the_exact_law(shift: float, scale: float) -> None:
    rng = np.random.default_rng(int(10 * scale))
    probs = 1 / (1 + np.exp(-rng.normal(shift, scale, (40, 300))))
    low, high = richness_interval(moments_of(torch.from_numpy(probs).float()))
    for at, row in enumerate(probs):
        assert abs(low[at] - exact_quantile(row, (1 - COVERAGE) / 2)) <= 1
        assert abs(high[at] - exact_quantile(row, (1 + COVERAGE) / 2)) <= 1


def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "few and likely": rng.random((40, 8)),
        "rare ones alone": rng.random((40, 800)) ** 40,
        "hardly any": rng.random((40, 50)) * 0.004,
        "sure ones": 1 - rng.random((40, 60)) ** 5,
        "surely there or not": (rng.random((40, 30)) < 0.4).astype(float),
        "one": rng.random((40, 1)),
        "many": rng.random((10, 2_000)) ** 3,
        "a few sure, many rare": np.hstack([1 - rng.random((40, 5)) * 0.01, rng.random((40, 500)) ** 20]),
    }


@pytest.mark.parametrize("name", tables())
def test_it_is_so_too_of_plots_that_are_poor_rich_or_sure(name: str) -> None:
    probs = tables()[name]
    found = np.stack(richness_interval(moments_of(torch.from_numpy(probs))), axis=1)
    exact = np.array([[exact_quantile(row, share) for share in (0.05, 0.95)] for row in probs])
    assert np.abs(found - exact).max() <= 1, (found - exact).tolist()
    assert (found[:, 0] <= found[:, 1]).all() and (found >= 0).all() and (found == np.round(found)).all()


def test_a_widened_interval_holds_the_one_of_independent_species() -> None:
    """Also where all species are sure, so that it has no width."""
    for name, probs in tables().items():
        moments = moments_of(torch.from_numpy(probs))
        (low, high), (lower, higher) = (
            richness_interval(moments),
            richness_interval(moments, Widening(below=2, above=3)),
        )
        assert (lower <= low).all() and (higher >= high).all(), name
    sure = moments_of(torch.tensor([[1.0, 1.0, 1.0, 0.0]]))
    assert [end.tolist() for end in richness_interval(sure)] == [[3.0], [3.0]]


def test_moments_are_the_sums_of_powers() -> None:
    probs = torch.rand(5, 700, generator=torch.Generator().manual_seed(1)) ** 4
    expected = np.stack([(probs.double().numpy() ** power).sum(axis=1) for power in (1, 2, 3, 4)], axis=1)
    np.testing.assert_allclose(moments_of(probs), expected, rtol=1e-6)


def rich_and_poor(num: int, rng: np.random.Generator) -> tuple[torch.Tensor, Lists]:
    """Return probabilities of 200 species, and plots of which each is richer or poorer in all of them."""
    probs = rng.beta(0.3, 2.0, (num, 200))
    tilt = rng.normal(0, 1.0, (num, 1))
    drawn = rng.random(probs.shape) < 1 / (1 + np.exp(-(np.log(probs / (1 - probs)) + tilt)))
    return torch.from_numpy(probs).float(), Lists.from_pairs(*np.nonzero(drawn), num)


def test_other_plots_keep_to_an_interval_that_was_widened_on_held_out_ones() -> None:
    rng = np.random.default_rng(3)
    widening = fit_widening(*rich_and_poor(2_000, rng))
    probs, truth = rich_and_poor(4_000, rng)
    for known, lowest, highest in ((Widening(), 0.2, 0.7), (widening, 0.87, 0.93)):
        low, high = richness_interval(moments_of(probs), known)
        inside = np.mean((truth.lengths() >= low) & (truth.lengths() <= high))
        assert lowest < inside < highest, known


def test_independent_species_need_no_widening_and_few_plots_give_none() -> None:
    rng = np.random.default_rng(4)
    probs = rng.beta(0.3, 2.0, (3_000, 200))
    truth = Lists.from_pairs(*np.nonzero(rng.random(probs.shape) < probs), len(probs))
    widening = fit_widening(torch.from_numpy(probs), truth)
    assert 1 <= widening.below < 1.1 and 1 <= widening.above < 1.1
    assert fit_widening(torch.full((10, 4), 0.5), Lists.from_rows([[0]] * 10)) == Widening()
