"""Probabilities against observed sets, cell by cell: Brier score, TSS at a threshold, calibration and its error."""

# N surveys, B surveys of a block, S species, C classes of species, M bins of logits, F folds

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.lists import Lists
from releve.metrics.blocks import as_table, map_rows

if TYPE_CHECKING:
    import torch

LIMIT = 30.0
"""Log-odds are cut here."""
BIN_WIDTH = 0.01
NUM_BINS = round(2 * LIMIT / BIN_WIDTH)
FREQUENCY_CLASSES = ("0", "1-10", "11-30", "31-100", "101-500", "> 500")
"""Species by their number of training plots."""
PRIOR = 1e-3


def frequency_class(num_train: np.ndarray) -> np.ndarray:
    """Return (S,) the position in ``FREQUENCY_CLASSES`` of species with so many training plots, on average over folds.

    Examples
    --------
    >>> [FREQUENCY_CLASSES[i] for i in frequency_class(np.array([0, 0.2, 10, 10.4, 500, 501]))]
    ['0', '1-10', '1-10', '11-30', '101-500', '> 500']
    """
    return np.searchsorted([0, 10, 30, 100, 500], num_train, side="left").astype(np.int64)


@dataclass(frozen=True, eq=False)
class CellScores:
    """Sums over the cells (survey, species) of a table of probabilities; see :func:`score_cells`.

    ``squared_error_S`` is the sum of (p - y)². ``num_true_S``, ``num_above_S`` and ``num_hit_S`` count surveys where
    the species is observed, where its probability reaches the threshold, and both. ``count_CM, present_CM, prob_CM``
    are, by class of species and bin of log-odds, the number of cells, of present cells, and the sum of probabilities.
    """

    num_surveys: int
    classes: tuple[str, ...]
    class_of_species: np.ndarray
    squared_error_S: np.ndarray
    num_true_S: np.ndarray
    num_above_S: np.ndarray
    num_hit_S: np.ndarray
    count_CM: np.ndarray
    present_CM: np.ndarray
    prob_CM: np.ndarray

    def brier_S(self) -> np.ndarray:
        """Return (S,) the Brier score of each species: the mean of (p - y)² over surveys."""
        return self.squared_error_S / self.num_surveys

    def brier(self, name: str = "all") -> float:
        """Return the mean Brier score of the species of a class; NaN where it has none."""
        values = self.brier_S()[self._species(name)]
        return float(values.mean()) if len(values) else float("nan")

    def tss_S(self) -> np.ndarray:
        """Return (S,) sensitivity + specificity - 1 at the threshold; NaN for species present nowhere or everywhere.

        References
        ----------
        Allouche, Tsoar & Kadmon (2006), Assessing the accuracy of species distribution models: prevalence, kappa and
        the true skill statistic (TSS), doi:10.1111/j.1365-2664.2006.01214.x.
        """
        absent = self.num_surveys - self.num_true_S
        false = self.num_above_S - self.num_hit_S
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(absent > 0, self.num_hit_S / self.num_true_S - false / absent, np.nan)

    def reliability(self, name: str = "all", *, num_bins: int = 20) -> pl.DataFrame:
        """Return predicted against observed frequency in bins of equal width between log-odds of -10 and 10.

        Columns ``mean_prob, observed_share, num_cells``; the outer bins take what lies beyond, empty bins are left out.
        """
        count_M, present_M, prob_M = self._bins(name)
        centres = -LIMIT + (np.arange(NUM_BINS) + 0.5) * BIN_WIDTH
        wide = np.clip(((centres + 10) * num_bins / 20).astype(int), 0, num_bins - 1)
        sums = [np.bincount(wide, weights=values, minlength=num_bins) for values in (count_M, present_M, prob_M)]
        used = sums[0] > 0
        count, present, prob = (values[used] for values in sums)
        return pl.DataFrame(
            {"mean_prob": prob / count, "observed_share": present / count, "num_cells": count.astype(np.int64)}
        )

    def ece(self, name: str = "all", *, num_bins: int = 20) -> float:
        """Return the expected calibration error: the mean, over cells, of the gap in their bin of reliability.

        References
        ----------
        Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks, ICML, arXiv:1706.04599.
        """
        table = self.reliability(name, num_bins=num_bins)
        if table.is_empty():
            return float("nan")
        gaps = np.abs(table["mean_prob"].to_numpy() - table["observed_share"].to_numpy())
        return float(np.average(gaps, weights=table["num_cells"].to_numpy()))

    def calibration(self, name: str = "all") -> tuple[float, float]:
        """Return slope and intercept of the logistic regression of presence on log-odds: 1 and 0 are perfect.

        NaN where the class has no presence. A slope under 1 says that the probabilities are too extreme.

        References
        ----------
        Van Calster et al. (2019), Calibration: the Achilles heel of predictive analytics, BMC Medicine 17, 230,
        doi:10.1186/s12916-019-1466-7.
        """
        count_M, present_M, _ = self._bins(name)
        used = count_M > 0
        if not present_M.any() or used.sum() < 2:
            return float("nan"), float("nan")
        centres = -LIMIT + (np.arange(NUM_BINS) + 0.5) * BIN_WIDTH
        return fit_line(centres[used], count_M[used], present_M[used])

    def _species(self, name: str) -> np.ndarray:
        if name == "all":
            return np.arange(len(self.class_of_species))
        return np.flatnonzero(self.class_of_species == self.classes.index(name))

    def _bins(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = slice(None) if name == "all" else [self.classes.index(name)]
        return self.count_CM[rows].sum(axis=0), self.present_CM[rows].sum(axis=0), self.prob_CM[rows].sum(axis=0)


def score_cells(
    probs: np.ndarray | torch.Tensor,
    truth: Lists,
    *,
    thresholds_FS: np.ndarray | None = None,
    fold_of_row: np.ndarray | None = None,
    class_of_species: np.ndarray | None = None,
    classes: Sequence[str] = FREQUENCY_CLASSES,
) -> CellScores:
    """Return the sums that Brier score, TSS, reliability and calibration are worked out from, in one pass.

    Parameters
    ----------
    probs
        (N, S) probabilities; a memory map is read in blocks.
    truth
        The N observed sets; species beyond the last column have no cell.
    thresholds_FS
        For each fold (or one row for all) the probability from which a species counts as predicted; by default 0.5.
    fold_of_row
        (N,) row of ``thresholds_FS`` that holds for each survey; by default the first.
    class_of_species
        (S,) position in ``classes`` of each species; by default all are in the first.
    classes
        Names of the classes.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], there are no surveys, or the numbers of surveys differ.

    Examples
    --------
    >>> cells = score_cells(np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]), Lists.from_rows([[0], [0, 1]]))
    >>> cells.brier_S().tolist(), cells.tss_S().tolist()
    ([0.25, 0.25, 0.0], [nan, 0.0, nan])
    >>> cells.reliability().rows()
    [(0.0, 0.0, 2), (0.5, 0.75, 4)]
    """
    probs_NS = as_table(probs, truth)
    num_surveys, num_species = probs_NS.shape
    if not num_surveys or not num_species:
        raise TableError(f"probabilities of shape {probs_NS.shape}", expected="one or more surveys and species")
    class_of = np.zeros(num_species, np.int64) if class_of_species is None else class_of_species
    thresholds_FS = np.full((1, num_species), 0.5) if thresholds_FS is None else thresholds_FS
    fold_of_row = np.zeros(num_surveys, np.int64) if fold_of_row is None else fold_of_row
    known = truth.indices < num_species
    pair_rows, pair_species = truth.surveys()[known], truth.indices[known]
    first_bin_S = (class_of * NUM_BINS).astype(np.int32)
    size = len(classes) * NUM_BINS

    def work(first: int, block_BS: np.ndarray) -> list[np.ndarray]:
        low, high = block_BS.min(), block_BS.max()
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise _bad_probs(block_BS, first)
        pairs = slice(*np.searchsorted(pair_rows, [first, first + len(block_BS)]))
        rows, species = pair_rows[pairs] - first, pair_species[pairs]
        values = block_BS[rows, species]
        error_S = np.einsum("bs,bs->s", block_BS, block_BS).astype(np.float64)
        error_S += np.bincount(species, weights=1.0 - 2.0 * values, minlength=num_species)
        above_BS = np.empty(block_BS.shape, bool)
        folds_B = fold_of_row[first : first + len(block_BS)]
        for fold in np.unique(folds_B):
            inside = folds_B == fold
            above_BS[inside] = block_BS[inside] >= thresholds_FS[fold].astype(block_BS.dtype)
        hit = above_BS[rows, species]
        bins_BS = _log_odds_bins(block_BS) + first_bin_S
        return [
            error_S,
            above_BS.sum(axis=0),
            np.bincount(species[hit], minlength=num_species),
            np.bincount(bins_BS.ravel(), minlength=size),
            np.bincount(bins_BS[rows, species], minlength=size),
            np.bincount(bins_BS.ravel(), weights=block_BS.ravel(), minlength=size),
        ]

    sums: list[np.ndarray] = []
    for part in map_rows(work, probs_NS):
        sums = [a + b for a, b in zip(sums, part, strict=True)] if sums else part
    error_S, above_S, hit_S, *bins = sums
    count_CM, present_CM, prob_CM = (values.reshape(len(classes), NUM_BINS) for values in bins)
    return CellScores(
        num_surveys=num_surveys,
        classes=tuple(classes),
        class_of_species=class_of,
        squared_error_S=error_S,
        num_true_S=np.bincount(pair_species, minlength=num_species),
        num_above_S=above_S,
        num_hit_S=hit_S,
        count_CM=count_CM,
        present_CM=present_CM,
        prob_CM=prob_CM,
    )


def _log_odds_bins(probs_BS: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        z_BS = probs_BS / (1 - probs_BS)
        np.log(z_BS, out=z_BS)
    z_BS += LIMIT
    z_BS *= 1 / BIN_WIDTH
    return np.clip(z_BS, 0, NUM_BINS - 1, out=z_BS).astype(np.int32)


def _bad_probs(block_BS: np.ndarray, first: int) -> TableError:
    num_outside = np.count_nonzero((block_BS < 0) | (block_BS > 1))
    return TableError(
        f"{np.count_nonzero(np.isnan(block_BS))} NaN and {num_outside} values outside 0 to 1 among the probabilities "
        f"of {len(block_BS)} surveys from row {first} on",
        expected="probabilities",
        action="Apply a sigmoid to logits; for NaN, look for a missing modality that was not masked",
    )


def fit_line(logit_M: np.ndarray, count_M: np.ndarray, present_M: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the logistic model of binned cells by Newton's method with step halving.

    Bins have a logit, a number of cells and a number of cells that are present; the model is logit P = slope x logit +
    intercept. A Gaussian prior worth a thousandth of a cell keeps them finite where the cells are separable.
    """
    design_M2 = np.stack([logit_M, np.ones_like(logit_M)], axis=1)
    start = np.array([1.0, 0.0])

    def loss(line: np.ndarray) -> float:
        z_M = design_M2 @ line
        fit = (count_M * np.logaddexp(0.0, z_M) - present_M * z_M).sum()
        return float(fit + PRIOR / 2 * ((line - start) ** 2).sum())

    line, current = start, loss(start)
    for _ in range(100):
        prob_M = 1 / (1 + np.exp(-np.clip(design_M2 @ line, -700, 700)))
        gradient = design_M2.T @ (count_M * prob_M - present_M) + PRIOR * (line - start)
        hessian = (design_M2.T * (count_M * prob_M * (1 - prob_M))) @ design_M2 + PRIOR * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while (new := loss(line - step)) > current and np.abs(step).max() > 1e-10:
            step = step / 2
        if np.abs(step).max() < 1e-9:
            break
        line, current = line - step, new
    return float(line[0]), float(line[1])
