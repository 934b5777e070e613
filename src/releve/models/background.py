"""What a species is compared with where nobody looked for it: the other places of a target group, and random ones."""

# N training rows

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RANDOM_PLACES = 150
"""Random places that are believed beside those of the target group, however few these are."""
LARGEST_SHARE = 0.3


@dataclass(frozen=True)
class Background:
    """Rows that are of no species by themselves, and how many of them a species is compared with."""

    sites: NDArray[np.int64]
    """Positions of the rows at which something was recorded."""
    random: NDArray[np.int64]
    """Positions of the random places."""
    random_share: float
    """Share of random places in the background of every species."""


def background_of(is_random_N: NDArray[np.bool_], *, is_target_group: bool) -> Background:
    """Return the background of some training rows.

    The places of a target group tell where recorders went. With few of them that is itself uncertain, and the
    background is drawn towards the whole region, as by 150 random places known beforehand, at most to three tenths.
    Records of few species are no target group: all rows then count alike.

    Parameters
    ----------
    is_random_N
        Which of the N rows are random places.
    is_target_group
        Whether the species are enough to be one another's background.

    References
    ----------
    Phillips et al. (2009), Sample selection bias and presence-only distribution models: implications for background
    and pseudo-absence data, doi:10.1890/07-2153.1: the target group.

    Examples
    --------
    >>> is_random = np.arange(11_350) >= 1350
    >>> background_of(is_random, is_target_group=True).random_share
    0.1
    >>> round(background_of(is_random, is_target_group=False).random_share, 2)
    0.88
    """
    sites, random = np.flatnonzero(~is_random_N), np.flatnonzero(is_random_N)
    if not len(random):
        share = 0.0
    elif not is_target_group:
        share = len(random) / len(is_random_N)
    else:
        share = min(RANDOM_PLACES / (len(sites) + RANDOM_PLACES), LARGEST_SHARE)
    return Background(sites, random, share)
