"""Deals out the rows of an epoch, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from releve.geo import block_ids
from releve.models.background import background_of
from releve.store.read import Store
from releve.train.config import RecordsConfig
from releve.train.rows import FoldRows

BACKGROUND_CELL_KM = 25.0
"""The random background draws a cell of this size, then a row in it: as evenly over the map as rows lie."""


THINNING_CELL_KM = 10.0


@dataclass(frozen=True)
class Step:
    """Rows of one step: plots, presence-only rows, and background sites, whose labels are not looked at."""

    plots: NDArray[np.int64]
    records: NDArray[np.int64]
    background: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """All of them, in this order."""
        return np.concatenate([self.plots, self.records, self.background])

    def share(self, index: int, number: int) -> Step:
        """Return every ``number``-th row of each kind, from the ``index``-th on: one of ``number`` like parts.

        Examples
        --------
        >>> step = Step(np.arange(5), np.array([7, 8]), np.zeros(0, np.int64))
        >>> step.share(1, 2).rows.tolist()
        [1, 3, 8]
        """
        return Step(self.plots[index::number], self.records[index::number], self.background[index::number])


class Sampler:
    """Deals out the rows of an epoch, plots and presence-only rows in steps of like size."""

    def __init__(self, store: Store, rows: FoldRows, config: RecordsConfig, batch_size: int) -> None:
        """Weigh the presence-only rows.

        Parameters
        ----------
        store
            An open store.
        rows
            Training rows of the epochs to come, without a kind that they do not see.
        config
            Thinning and background of the presence-only rows.
        batch_size
            Plots a step; presence-only rows a step where there are no plots.
        """
        self.plots, self.config = rows.plots, config
        plots, records = rows.plots, rows.records
        known = background_of(store.is_random[records], is_target_group=store.is_target_group)
        has_random = store.is_target_group and len(known.random) > 0  # else random places are rows like others
        random, records = records[known.random], records[known.sites] if has_random else records
        lon, lat = store.lon[records], store.lat[records]
        self.thinned = Draws(records, _inverse_count(block_ids(lon, lat, THINNING_CELL_KM), config.thinning))
        even = Draws(records, _inverse_count(block_ids(lon, lat, BACKGROUND_CELL_KM), 1.0))
        self.background = Draws(random, np.ones(len(random))) if has_random else even
        self.background_share = known.random_share if has_random else float(config.background != "target_group")
        """Background sites of a step for each of its presence-only rows."""
        self.num_steps = -(-(len(plots) or len(records)) // batch_size)
        """Steps of an epoch: one pass over the plots, or over as many presence-only rows as there are."""
        wanted = round(config.rows_per_plot * len(plots)) if len(plots) else len(records)
        self.num_records = max(2 * self.num_steps, wanted) if len(records) else 0
        """Presence-only rows of an epoch."""

    @property
    def smallest_step(self) -> int:
        """The number of rows of the smallest step, of the kind that has fewer."""
        return min(number // self.num_steps for number in (len(self.plots), self.num_records) if number)

    def steps(self, rng: np.random.Generator) -> Iterator[Step]:
        """Yield the steps of one epoch."""
        plots = np.array_split(rng.permutation(self.plots), self.num_steps)
        records = np.array_split(self.thinned.draw(self.num_records, rng), self.num_steps)
        for ours, theirs in zip(plots, records, strict=True):
            needed = int(np.ceil(self.background_share * len(theirs)))
            yield Step(ours, theirs, self.background.draw(needed, rng))


class Draws:
    """Draws rows with weights.

    Parameters
    ----------
    rows
        Positions in a store.
    weights
        (rows,) how often each is drawn against others.
    """

    def __init__(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        self.rows, self._cumulative = rows, np.cumsum(weights)
        self._even = len(weights) > 0 and weights.min() == weights.max()

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return rows: all of them in random order where that is what was asked, else a weighted draw."""
        if number == 0:
            return self.rows[:0]
        if number == len(self.rows) and self._even:
            return rng.permutation(self.rows)
        # systematic sampling: a row of weight w is drawn floor or ceil of its expected number of times
        points = (np.arange(number) + rng.random()) * (self._cumulative[-1] / number)
        drawn = np.minimum(np.searchsorted(self._cumulative, points, side="right"), len(self.rows) - 1)
        return rng.permutation(self.rows[drawn])


def _inverse_count(cells: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """Return (N,) the number of points in each point's cell to the power of minus ``power``."""
    return np.bincount(cells)[cells].astype(np.float64) ** -power
