"""How many species are there: the interval of their number, when each occurs with its own probability."""

# B cells

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

COVERAGE = 0.9
"""Probability that the number of species lies within."""


def richness_interval(moments_BR: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (B,) the 5 % and the 95 % quantile of the number of species, if species occur independently.

    The number follows the Poisson-binomial law. Its quantiles are those of the normal law moved by its skewness
    (Cornish & Fisher), a half taken off because it is a whole number; they are within 1 of the exact ones.

    Parameters
    ----------
    moments_BR
        (B, 3 or more) sums of p, p^2, p^3 over all species.

    References
    ----------
    Volkova (1996), A refinement of the central limit theorem for sums of independent random indicators, Theory of
    Probability and its Applications 40, 791-794, doi:10.1137/1140093.
    Hong (2013), On computing the distribution function for the Poisson binomial distribution, Computational Statistics
    & Data Analysis 59, 41-51, doi:10.1016/j.csda.2012.10.006.

    Examples
    --------
    Twenty coins: 6 to 14 heads.

    >>> [end.tolist() for end in richness_interval(np.array([[10.0, 5.0, 2.5]]))]
    [[6.0], [14.0]]
    """
    mass_B, squares_B, cubes_B = moments_BR[:, :3].T
    variance = np.maximum(mass_B - squares_B, 1e-12)
    sd = np.sqrt(variance)
    skewness = (mass_B - 3 * squares_B + 2 * cubes_B) / (variance * sd)
    ends = []
    for share in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2):
        z = float(ndtri(share))
        position = mass_B - 0.5 + sd * (z + np.clip(skewness, -2, 2) * (z * z - 1) / 6)
        ends.append(np.maximum(np.ceil(position - 1e-9), 0.0).astype(np.float32))
    return ends[0], ends[1]
