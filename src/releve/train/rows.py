"""Which rows a member is fitted on, selects its epoch on and holds out, and what their silence means."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from releve.errors import RunError
from releve.prepare.config import SplitConfig
from releve.prepare.split import selection_rows, split_rows
from releve.store.read import Store
from releve.train.config import Phase, Regime

SELECTION = 1
"""Sets the random numbers that deal out selection blocks apart from those of every epoch."""


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

    def of_phase(self, phase: Phase) -> FoldRows:
        """Return the rows of a phase: without the kind that it does not see."""
        none = self.plots[:0]
        return replace(self, plots=self.plots if phase.plots else none, records=self.records if phase.records else none)


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
        train, inside, _ = split_rows(store.folds, store.lon, store.lat, fold, split.buffer_km, store.reach_km)
        held_out = inside[store.is_scored[inside]]
        if selection_share and store.is_scored[train].any():
            rng = np.random.default_rng([seed, 0, SELECTION])  # an epoch draws from [seed, epoch]
            train, selection, _ = selection_rows(
                *(train, store.lon, store.lat, split),
                share=selection_share,
                rng=rng,
                counted=store.is_scored,
                reach_km=store.reach_km,
            )
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
    counted = records[~store.is_random[records]] if store.is_target_group else records
    expected = richness[plots].mean() if len(plots) else np.quantile(richness[counted], 0.95)
    return np.where(store.is_plot | (richness == 0), 1.0, np.minimum(1.0, richness / max(expected, 1.0))).astype(
        np.float32
    )
