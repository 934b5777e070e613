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
