"""How many species are there: the expected number, and an interval that as many held-out plots keep to as it says."""

# N surveys, S species

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import ndtri

from releve.decide.blocks import map_blocks
from releve.lists import Lists

COVERAGE = 0.9
"""Probability that the number of species lies within."""
NUM_MOMENTS = 4
MIN_SURVEYS = 50
"""With fewer held-out surveys nothing is known of the ends; species are then taken as independent."""


class Widening(BaseModel):
    """How much farther than of independent species the ends of the interval lie from the expected number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    below: float = 1.0
    above: float = 1.0


def moments_of(probs_NS: torch.Tensor) -> NDArray[np.float64]:
    """Return (N, 4) sums over species of p, p^2, p^3, p^4.

    Examples
    --------
    >>> moments_of(torch.tensor([[0.5, 1.0, 0.0]])).tolist()
    [[1.5, 1.25, 1.125, 1.0625]]
    """
    square_NS = probs_NS.square()
    sums = [probs_NS.sum(dim=1, dtype=torch.float64), square_NS.sum(dim=1, dtype=torch.float64)]
    sums += [torch.linalg.vecdot(square_NS, other_NS).double() for other_NS in (probs_NS, square_NS)]
    return torch.stack(sums, dim=1).cpu().numpy()


def richness_interval(
    moments_NR: NDArray[np.float64], widening: Widening | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N,) the lower and upper end of an interval in which the number of species lies with 90 % probability.

    If species occurred independently, their number would follow the Poisson-binomial law. Its quantiles are those of
    the normal law moved by its skewness (Cornish & Fisher), a half taken off because it is a whole number; they are
    within 1 of the exact ones. Species do not occur independently: what makes a plot rich in one makes it rich in
    others. So both ends are moved away from the expected number as far as held-out plots ask for.

    Parameters
    ----------
    moments_NR
        (N, 3 or more) sums of p, p^2, p^3 over all species, as of :func:`moments_of`.
    widening
        As of :func:`fit_widening`; by default as if species occurred independently.

    References
    ----------
    Volkova (1996), A refinement of the central limit theorem for sums of independent random indicators, Theory of
    Probability and its Applications 40, 791-794, doi:10.1137/1140093.
    Hong (2013), On computing the distribution function for the Poisson binomial distribution, Computational Statistics
    & Data Analysis 59, 41-51, doi:10.1016/j.csda.2012.10.006.

    Examples
    --------
    Twenty coins: 6 to 14 heads; and three times as far.

    >>> coins = np.array([[10.0, 5.0, 2.5]])
    >>> [end.tolist() for end in richness_interval(coins)]
    [[6.0], [14.0]]
    >>> [end.tolist() for end in richness_interval(coins, Widening(below=2.0, above=3.0))]
    [[2.0], [20.0]]
    """
    mass_N = moments_NR[:, 0]
    low_N, high_N = _ends_if_independent(moments_NR)
    known = widening or Widening()
    low_N = mass_N - known.below * (mass_N - low_N)
    # Where all species are nearly sure, the half that is taken off leaves the upper end below: that is not widened.
    high_N = mass_N + np.where(high_N > mass_N, known.above, 1.0) * (high_N - mass_N)
    return tuple(np.maximum(np.ceil(end - 1e-9), 0.0).astype(np.float32) for end in (low_N, high_N))  # type: ignore[return-value]


def _ends_if_independent(moments_NR: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) both ends, not yet rounded up to whole numbers."""
    mass_N, squares_N, cubes_N = moments_NR[:, :3].T
    variance = np.maximum(mass_N - squares_N, 1e-12)
    sd = np.sqrt(variance)
    skewness = np.clip((mass_N - 3 * squares_N + 2 * cubes_N) / (variance * sd), -2, 2)
    z_low, z_high = (float(ndtri(share)) for share in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    low, high = (mass_N - 0.5 + sd * (z + skewness * (z * z - 1) / 6) for z in (z_low, z_high))
    return low, high


def fit_widening(probs: np.ndarray | torch.Tensor, truth: Lists) -> Widening:
    """Return how much the interval must be widened so that held-out surveys keep to it: a twentieth lies beyond an end.

    Parameters
    ----------
    probs
        (N, S) calibrated probabilities of held-out surveys.
    truth
        Their observed sets; species that the model does not know are not counted.

    Examples
    --------
    Plots on which ten coins are either all heads or all tails:

    >>> probs = torch.full((100, 10), 0.5)
    >>> truth = Lists.from_rows([list(range(10)), []] * 50)
    >>> widening = fit_widening(probs, truth)
    >>> [end.tolist() for end in richness_interval(moments_of(probs[:1]), widening)]
    [[0.0], [10.0]]
    """
    if truth.num_surveys < MIN_SURVEYS:
        return Widening()
    moments_NR = np.concatenate(map_blocks(lambda _, block_NS: moments_of(block_NS), probs))
    num_N = np.asarray(truth.to_csr(probs.shape[1]).sum(axis=1)).ravel()
    mass_N, (low_N, high_N) = moments_NR[:, 0], _ends_if_independent(moments_NR)
    share = (1 + COVERAGE) / 2
    # An end is rounded up: the survey lies inside if its number is no more than .99 below it, and no more above.
    below = np.quantile((mass_N - num_N) / np.maximum(mass_N - low_N, 0.5), share)
    above = np.quantile((num_N - mass_N) / np.maximum(high_N - mass_N, 0.5), share)
    return Widening(below=max(float(below), 1.0), above=max(float(above), 1.0))
