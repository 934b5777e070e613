"""Whether conformal lists keep their promise on held-out surveys, where, and what weights mend."""

# N surveys, S species

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.decide.conformal import miss_rate_thresholds, row_threshold_sets
from releve.decide.coverage import coverage_table
from releve.decide.shift import shift_weights
from releve.errors import TableError
from releve.evaluate.facts import standardised_covariates
from releve.lists import Lists
from releve.progress import console
from releve.store.read import Store

MIN_SURVEYS = 10
"""Groups with fewer surveys are not weighted."""


def coverage_held_out(
    store: Store,
    rows: NDArray[np.int64],
    probs: torch.Tensor | NDArray,
    truth: Lists,
    groups: list[NDArray[np.int64]],
    groupings: dict[str, NDArray],
    *,
    target: float,
    blocks: NDArray[np.int64],
    seed: int,
) -> pl.DataFrame | None:
    """Return how much of the observed species conformal lists hold, over all held-out surveys and by group.

    A survey's list is made by a threshold that was fitted on the other groups. Weighted, the surveys of the other
    groups count as their environment is found in the survey's own group (:func:`releve.decide.shift.shift_weights`).

    Parameters
    ----------
    store, rows
        Where the environment of the surveys is.
    probs
        (N, S) calibrated probabilities.
    truth
        The N observed sets.
    groups
        Positions of surveys that are decided by the others, as ``assessment_groups`` gives them.
    groupings
        By name, the group of each survey, such as its country.
    target
        Share of the observed species that the lists are to hold on average.
    blocks
        (N,) spatial blocks, for the intervals.
    seed
        Of the weights and the intervals.

    Returns
    -------
    polars.DataFrame | None
        The columns of :func:`releve.decide.coverage.coverage_table`, ``target``, and ``weighted_coverage`` and
        ``weighted_length``; None where there are too few surveys to promise anything, which is said.
    """
    plain, weighted = [], []
    everything = np.arange(len(rows))
    try:
        for group in groups:
            others = np.setdiff1d(everything, group) if len(groups) > 1 else group
            fitted = probs[others], truth.take(others)
            threshold = miss_rate_thresholds(*fitted, target)
            plain.append(_placed(row_threshold_sets(probs[group], threshold), group))
            if min(len(others), len(group)) < MIN_SURVEYS:
                weighted.append(plain[-1])
                continue
            here, there = standardised_covariates(store, rows[others], store, rows[group])
            weights = shift_weights(here, there, seed=seed)
            ours, theirs = weights.calibration_N, weights.target_M
            thresholds = miss_rate_thresholds(*fitted, target, weights_N=ours, weights_M=theirs)
            weighted.append(_placed(row_threshold_sets(probs[group], thresholds), group))
    except TableError as error:
        console.print(f"conformal lists are left out: {error}")
        return None
    tables = [
        coverage_table(_joined(parts, len(rows)), truth, groupings, blocks_N=blocks, seed=seed)
        for parts in (plain, weighted)
    ]
    more = tables[1].select(weighted_coverage="coverage", weighted_length="mean_length")
    first = tables[0].rename({"mean_length": "list_length"}).with_columns(target=pl.lit(target))
    return pl.concat([first, more], how="horizontal")


def _placed(lists: Lists, group: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    return group[lists.surveys()], lists.indices


def _joined(parts: list[tuple[NDArray, NDArray]], num_surveys: int) -> Lists:
    surveys, species = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Lists.from_pairs(surveys, species, num_surveys)
