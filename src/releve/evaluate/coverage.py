"""Whether conformal lists keep their promise on held-out surveys, and where."""

# N surveys, S species

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.decide.config import DecideConfig
from releve.errors import TableError
from releve.evaluate.held_out import decide_held_out
from releve.evaluate.tables import mean_interval, scored, without_nan
from releve.lists import Lists
from releve.progress import say

COVERAGE = 0.9
"""Share of the observed species that conformal lists are to hold, whose coverage is reported."""


def conformal_held_out(
    logits: dict[str, torch.Tensor],
    truth: Lists,
    groups: list[NDArray[np.int64]],
    config: DecideConfig,
    *,
    coverage: float = COVERAGE,
) -> Lists | None:
    """Return conformal lists of held-out rows; calibration and threshold of a group are fitted on the others alone.

    None where there are too few surveys to promise anything, which is said.

    Parameters
    ----------
    logits
        By kind of member, (N, S) logits.
    truth
        The N observed sets.
    groups
        Positions of the rows of each group.
    config
        The calibration.
    coverage
        Share of the observed species that the lists are to hold on average.
    """
    promise = config.model_copy(update={"rule": "conformal", "coverage": coverage})
    try:
        return decide_held_out(logits, truth, groups, promise)[1]
    except TableError as error:
        say(f"conformal lists are left out: {error}")
        return None


def coverage_table(
    lists: Lists,
    truth: Lists,
    groupings: Mapping[str, NDArray],
    *,
    blocks: NDArray,
    seed: int,
    target: float = COVERAGE,
) -> pl.DataFrame:
    """Return how much of the observed species the lists hold, and how much of the lists is not there, by group.

    Parameters
    ----------
    lists
        N lists.
    truth
        The N observed sets. A species unknown to the model counts as missed.
    groupings
        By name of the grouping, such as ``country``, the group of each survey, (N,).
    blocks
        (N,) spatial block of each survey, drawn together by the bootstrap.
    seed
        Of the bootstrap.
    target
        What the lists promise, repeated beside what they hold.

    Returns
    -------
    polars.DataFrame
        ``grouping, group, num_surveys, coverage, coverage_low, coverage_high, false_list_rate, false_list_rate_low,
        false_list_rate_high, list_length, target``; first a row of all surveys, then each grouping's groups in order.
        ``coverage`` is the mean share of the observed species that are listed, over the surveys that have some; the
        false-list rate of an empty list is 0. The 95 % intervals are null in a group of one survey or block.

    Examples
    --------
    >>> lists, truth = Lists.from_rows([[0, 1], [2], []]), Lists.from_rows([[0], [1, 2], [0]])
    >>> countries = {"country": np.array(["A", "A", "B"])}
    >>> table = coverage_table(lists, truth, countries, blocks=np.arange(3), seed=0)
    >>> table.select("group", "num_surveys", "coverage", "false_list_rate", "list_length").rows()
    [('all', 3, 0.5, 0.16666666666666666, 1.0), ('A', 2, 0.75, 0.25, 1.5), ('B', 1, 0.0, 0.0, 0.0)]
    """
    width = 1 + max(int(side.indices.max(initial=0)) for side in (lists, truth))
    both_N = np.asarray(lists.to_csr(width).multiply(truth.to_csr(width)).sum(axis=1)).ravel()
    listed_N, observed_N = lists.lengths(), truth.lengths()
    covered_N = np.divide(both_N, observed_N, out=np.full(len(both_N), np.nan), where=observed_N > 0)
    false_N = np.divide(listed_N - both_N, listed_N, out=np.zeros(len(both_N)), where=listed_N > 0)
    parts = [("all", "all", np.arange(len(both_N)))]
    for grouping, values in groupings.items():
        parts += [(grouping, str(value), np.flatnonzero(values == value)) for value in np.unique(values)]
    rows = []
    for grouping, group, inside in parts:
        row: dict[str, object] = {"grouping": grouping, "group": group, "num_surveys": len(inside)}
        defined = inside[observed_N[inside] > 0]
        for name, value_N, own in (("coverage", covered_N, defined), ("false_list_rate", false_N, inside)):
            mean = float(value_N[own].mean()) if len(own) else None
            row |= scored(name, mean, mean_interval(value_N[own], blocks[own], seed))
        rows.append(row | {"list_length": float(listed_N[inside].mean()), "target": target})
    return without_nan(pl.DataFrame(rows, infer_schema_length=None))
