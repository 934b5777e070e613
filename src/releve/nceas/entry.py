"""Relevé's entry to the NCEAS benchmark: a blend of smooth and rough models, one setting for every region."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from releve.nceas.data import Region
from releve.nceas.design import make_design
from releve.nceas.members import MEMBERS, Scores


def predict_entry(
    region: Region, seed: int, *, with_place: bool = True, advance: Callable[[], None] = lambda: None
) -> Scores:
    """Return one (plots, species) table of scores for each test set of a region.

    The members' scores of a species are brought to mean 0 and deviation 1 over the plots and added up. Nothing is
    chosen by region: what differs between regions, the share of random background, follows from the number of sites.

    Parameters
    ----------
    with_place
        Whether coordinates are among the features: of use among the records, of harm beyond them.
    advance
        Called when a member is done.
    """
    total = [np.zeros((len(test.sites), len(region.species))) for test in region.tests]
    design = make_design(region, with_place=with_place)
    for member in MEMBERS.values():
        for scores, own in zip(total, member(design, seed), strict=True):
            scores += standardise(own)
        advance()
    return total


def standardise(scores_NS: np.ndarray) -> np.ndarray:
    """Return each species' scores with mean 0 and deviation 1 over the plots; all 0 where they are all equal.

    Examples
    --------
    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    deviation = scores_NS.std(0)
    return np.where(deviation > 0, (scores_NS - scores_NS.mean(0)) / np.where(deviation > 0, deviation, 1), 0.0)
