"""How a model is trained on two presence signals: which rows each epoch sees, and what their silence means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from releve.errors import RunError
from releve.geo import block_ids, equal_area_crs, project
from releve.prepare.split import SplitConfig, selection_rows, split_rows
from releve.store import Store

Regime = Literal["pa", "po", "presence", "classes"]
BACKGROUND_CELL_KM = 25.0
"""The random background draws a cell of this size, then a row in it: as evenly over the map as rows lie."""
THINNING_CELL_KM = 10.0


class RecordsConfig(BaseModel):
    """How presence-only rows are learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["bce", "trusted_bce", "an_full", "full_weighted", "deep_maxent", "asymmetric"] = "trusted_bce"
    """Name of a loss in ``releve.losses.LOSSES``."""
    background: Literal["target_group", "mixed", "random"] = "target_group"
    """Where silence is taken from. ``target_group``: the presence-only rows themselves, which lie where people look for
    plants; ``random``: rows drawn evenly over the map, one 25 km cell as often as another; ``mixed``: half of each."""
    trust: Literal["richness", "coverage"] = "richness"
    """How far ``trusted_bce`` believes silence. ``richness``: the species found there as a share of those expected on a
    plot, so that every row calls for about the same number of species, however little was recorded; ``coverage``: the
    pseudo-plot's own estimate (see docs/pseudoplots.md), 0 for a single visit."""
    weight: float = Field(5.0, gt=0, le=100)
    """Weight of the presence-only loss beside that of the plots (regime ``presence``)."""
    rows_per_plot: float = Field(6.0, gt=0, le=100)
    """Presence-only rows in a step for each plot (regime ``presence``)."""
    thinning: float = Field(0.5, ge=0, le=1)
    """A row is drawn with the number of rows in its 10 km cell to the power of minus this: 0 as recorded, 1 evenly."""
    observation_head: bool = True
    """Explain presence-only rows by publisher, effort and access too, and leave that out when predicting."""
    pretrain_epochs: int = Field(10, ge=1)
    """Epochs on presence-only rows before the plots (regime ``classes``)."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs that see the same kinds of rows; only the last phase's epochs are candidates to be kept."""

    epochs: int
    plots: bool
    records: bool


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


def plan_phases(regime: Regime, epochs: int, pretrain_epochs: int) -> list[Phase]:
    """Return the phases of a regime.

    Examples
    --------
    >>> plan_phases("classes", 10, 5)
    [Phase(epochs=5, plots=False, records=True), Phase(epochs=10, plots=True, records=False)]
    """
    last = Phase(epochs, plots=regime != "po", records=regime in ("po", "presence"))
    return [Phase(pretrain_epochs, plots=False, records=True), last] if regime == "classes" else [last]


@dataclass(frozen=True)
class FoldRows:
    """Rows by what they are used for, each ascending; no row has two uses, and no block but for the buffer's."""

    plots: NDArray[np.int64]
    """Plots that the weights are fitted on."""
    records: NDArray[np.int64]
    """Presence-only rows that the weights are fitted on."""
    selection: NDArray[np.int64]
    """Rows that the epoch is selected on."""
    held_out: NDArray[np.int64]
    """Rows that calibrations are fitted on and that are scored (each by a calibration fitted on other folds)."""


def fold_rows(
    store: Store,
    fold: int | None,
    split: SplitConfig,
    regime: Regime = "pa",
    *,
    selection_share: float = 0.0,
    seed: int = 0,
) -> FoldRows:
    """Return the rows of a fold by their use in a regime.

    Selection and held-out rows are plots; in a store without plots, presence-only rows. No training row lies in their
    blocks, nor nearer than the buffer.

    Parameters
    ----------
    store
        Labelled rows with folds.
    fold
        The fold that is held out; None holds out nothing and selects on nothing.
    split
        Blocks and buffer.
    regime
        What is trained on.
    selection_share
        Share of the rows outside the fold, as whole blocks, to select the epoch on.
    seed
        Draws these blocks.

    Raises
    ------
    RunError
        If the regime has no rows to train on.
    """
    none = np.zeros(0, np.int64)
    train, selection, held_out = np.arange(len(store)), none, none
    if fold is not None:
        train, inside, _ = split_rows(store.folds, store.lon, store.lat, fold, split.buffer_km)
        held_out = inside[store.is_scored[inside]]
        if selection_share and store.is_scored[train].any():
            rng = np.random.default_rng([seed, 2])
            places = (store.lon, store.lat, split)
            share = {"share": selection_share, "rng": rng, "counted": store.is_scored}
            train, selection, _ = selection_rows(train, *places, **share)  # type: ignore[arg-type]
    plots, records = train[store.is_plot[train]], train[~store.is_plot[train]]
    lacking = (regime != "po" and len(plots) < 2) or (regime != "pa" and len(records) < 2)
    if lacking or (fold is not None and len(held_out) < 2):
        raise RunError(
            f"fold {fold} has {len(plots)} plots and {len(records)} presence-only rows to train on, {len(held_out)} "
            "rows to validate on",
            expected=f"at least 2 of each that regime {regime!r} needs",
            action="Set data.records to the release's presence-only split" if regime != "pa" else "",
        )
    return FoldRows(none if regime == "po" else plots, none if regime == "pa" else records, selection, held_out)


def weigh_silence(store: Store, plots: NDArray[np.int64], records: NDArray[np.int64], kind: str) -> NDArray[np.float32]:
    """Return (surveys,) how far each row's silence is trusted, 0 to 1; 1 for a plot.

    With ``richness`` a row with n species is trusted by min(1, n / R). R is the mean richness of the training plots;
    without plots, the number of species that 19 of 20 pseudo-plots do not exceed. The presences of a row, n, and
    its expected silence, trust x R, are then alike, so that a loss on them learns which species there are and not
    how many were recorded.
    """
    if kind == "coverage":
        return store.trust
    richness = store.labels.lengths().astype(np.float32)
    expected = richness[plots].mean() if len(plots) else np.quantile(richness[records], 0.95)
    return np.where(store.is_plot, 1.0, np.minimum(1.0, richness / max(expected, 1.0))).astype(np.float32)


class Sampler:
    """Deals out the rows of an epoch.

    Parameters
    ----------
    store
        An open store.
    plots, records
        Training rows.
    config
        Thinning and background of the presence-only rows.
    batch_size
        Plots a step; presence-only rows a step where there are no plots.
    """

    def __init__(
        self,
        store: Store,
        plots: NDArray[np.int64],
        records: NDArray[np.int64],
        config: RecordsConfig,
        batch_size: int,
    ) -> None:
        self.plots, self.records, self.config, self.batch_size = plots, records, config, batch_size
        lon, lat = store.lon[records], store.lat[records]
        xy_m = project(lon, lat, equal_area_crs(lon, lat)) if len(records) else np.zeros((0, 2))
        self.thinned = Draws(records, _inverse_count(xy_m, THINNING_CELL_KM, config.thinning))
        self.even = Draws(records, _inverse_count(xy_m, BACKGROUND_CELL_KM, 1.0))

    def num_steps(self, phase: Phase) -> int:
        """Return the steps of an epoch: one pass over the plots, or over as many presence-only rows as there are."""
        return -(-len(self.plots if phase.plots else self.records) // self.batch_size)

    def smallest_step(self, phases: list[Phase]) -> int:
        """Return the number of rows of the smallest step, of the kind that has fewer."""
        sizes = []
        for phase in phases:
            num_steps = self.num_steps(phase)
            number = len(self.plots if phase.plots else self.records)
            both = [number, self.config.rows_per_plot * number] if phase.plots and phase.records else [number]
            sizes.append(int(min(both)) // num_steps)
        return min(sizes)

    def steps(self, phase: Phase, rng: np.random.Generator) -> Iterator[Step]:
        """Yield the steps of one epoch."""
        num_steps, none = self.num_steps(phase), np.zeros(0, np.int64)
        plots = np.array_split(rng.permutation(self.plots) if phase.plots else none, num_steps)
        records = [none] * num_steps
        if phase.records:
            ratio = self.config.rows_per_plot * len(self.plots) if phase.plots else len(self.records)
            number = max(2 * num_steps, round(ratio))
            records = np.array_split(self.thinned.draw(number, rng), num_steps)
        for ours, theirs in zip(plots, records, strict=True):
            needed = len(theirs) if self.config.background != "target_group" else 0
            yield Step(ours, theirs, self.even.draw(needed, rng) if needed else none)


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
        if number == len(self.rows) and self._even:
            return rng.permutation(self.rows)
        # systematic sampling: a row of weight w is drawn floor or ceil of its expected number of times
        points = (np.arange(number) + rng.random()) * (self._cumulative[-1] / number)
        drawn = np.minimum(np.searchsorted(self._cumulative, points, side="right"), len(self.rows) - 1)
        return rng.permutation(self.rows[drawn])


def _inverse_count(xy_m: NDArray[np.float64], cell_km: float, power: float) -> NDArray[np.float64]:
    """Return (N,) the number of points in each point's cell to the power of minus ``power``."""
    if len(xy_m) == 0:
        return np.zeros(0)
    cells = block_ids(xy_m, cell_km)
    return np.bincount(cells)[cells].astype(np.float64) ** -power
