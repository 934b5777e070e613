"""What lists keep of their promise, group by group."""

# N surveys

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import TableError
from releve.lists import Lists
from releve.metrics.intervals import bootstrap_interval


def coverage_table(
    lists: Lists,
    truth: Lists,
    groups: Mapping[str, NDArray],
    *,
    blocks_N: NDArray | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Return how much of the observed species the lists hold, and how much of the lists is not there, by group.

    Parameters
    ----------
    lists
        N lists.
    truth
        The N observed sets. A species unknown to the model counts as missed.
    groups
        By name of the grouping, such as ``country``, the group of each survey, (N,).
    blocks_N
        Spatial block of each survey, drawn together by the bootstrap; without them, surveys are drawn.
    seed
        Of the bootstrap.

    Returns
    -------
    polars.DataFrame
        ``grouping, group, num_surveys, coverage, coverage_low, coverage_high, false_list_rate, false_list_low,
        false_list_high, mean_length``; first a row of all surveys, then each grouping's groups in order. ``coverage``
        is the mean share of the observed species that are listed, over the surveys that have some; the false-list rate
        of an empty list is 0. The 95 % intervals are bootstrap percentiles, null in a group of one survey or block.

    Raises
    ------
    TableError
        If there is no survey, or the numbers of surveys differ.

    Examples
    --------
    >>> lists, truth = Lists.from_rows([[0, 1], [2], []]), Lists.from_rows([[0], [1, 2], [0]])
    >>> table = coverage_table(lists, truth, {"country": np.array(["A", "A", "B"])})
    >>> table.select("group", "num_surveys", "coverage", "false_list_rate", "mean_length").rows()
    [('all', 3, 0.5, 0.16666666666666666, 1.0), ('A', 2, 0.75, 0.25, 1.5), ('B', 1, 0.0, 0.0, 0.0)]
    """
    num = truth.num_surveys
    wrong = {name: len(values) for name, values in groups.items() if len(values) != num}
    if not num or lists.num_surveys != num or wrong or (blocks_N is not None and len(blocks_N) != num):
        raise TableError(
            f"{lists.num_surveys} lists, {num} observed sets and groupings {wrong or 'of as many'}",
            expected="as many of each, and one or more",
        )
    width = 1 + max(int(x.indices.max(initial=0)) for x in (lists, truth))
    both_N = np.asarray(lists.to_csr(width).multiply(truth.to_csr(width)).sum(axis=1)).ravel()
    listed_N, observed_N = lists.lengths(), truth.lengths()
    covered_N = np.divide(both_N, observed_N, out=np.full(num, np.nan), where=observed_N > 0)
    false_N = np.divide(listed_N - both_N, listed_N, out=np.zeros(num), where=listed_N > 0)
    blocks_N = np.arange(num) if blocks_N is None else np.asarray(blocks_N)
    parts = [("all", "all", np.arange(num))]
    for grouping, values in groups.items():
        parts += [(grouping, str(value), np.flatnonzero(values == value)) for value in np.unique(values)]
    rows = []
    for grouping, group, inside in parts:
        scored = inside[observed_N[inside] > 0]
        coverage = _mean_and_interval(covered_N[scored], blocks_N[scored], seed)
        false = _mean_and_interval(false_N[inside], blocks_N[inside], seed)
        rows.append((grouping, group, len(inside), *coverage, *false, float(listed_N[inside].mean())))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


SCHEMA = {
    "grouping": pl.String,
    "group": pl.String,
    "num_surveys": pl.Int64,
    "coverage": pl.Float64,
    "coverage_low": pl.Float64,
    "coverage_high": pl.Float64,
    "false_list_rate": pl.Float64,
    "false_list_low": pl.Float64,
    "false_list_high": pl.Float64,
    "mean_length": pl.Float64,
}


def _mean_and_interval(
    values: NDArray[np.float64], blocks: NDArray, seed: int
) -> tuple[float | None, float | None, float | None]:
    if not len(values):
        return None, None, None
    low, high = bootstrap_interval(values, blocks, np.random.default_rng(seed))
    known = bool(np.isfinite(low))
    return float(values.mean()), low if known else None, high if known else None
