"""Calibration on the logit scale: slope and intercept fitted on validation surveys, and its diagnostics."""

# N surveys, B surveys of a block, S species, C classes of species, M bins of logits

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import polars as pl
import torch

from releve.decide.blocks import map_blocks
from releve.errors import TableError
from releve.lists import Lists

Values = TypeVar("Values", np.ndarray, torch.Tensor)

LIMIT = 30.0
"""Logits are cut here: a probability of 1e-13."""

BIN_WIDTH = 0.01
PRIOR = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Calibrated logit = ``slope`` x logit + ``intercept``.

    A slope under 1 says that the scores were overconfident; 1 / slope is the temperature of the literature.

    Examples
    --------
    >>> Calibration(slope=0.5, intercept=0.0).apply(np.array([0.0, 2.0])).round(3).tolist()
    [0.5, 0.731]
    """

    slope: float = 1.0
    intercept: float = 0.0
    method: Literal["linear"] = "linear"

    def apply(self, logits: Values) -> Values:
        """Return calibrated probabilities of the same shape, kind and precision as the logits."""
        if isinstance(logits, torch.Tensor):
            return torch.sigmoid(self.slope * logits + self.intercept)
        z = self.slope * np.asarray(logits) + self.intercept
        return torch.sigmoid(torch.from_numpy(np.atleast_1d(z))).numpy().reshape(z.shape)

    def then(self, slope: float, intercept: float) -> Calibration:
        """Return this calibration followed by another slope and intercept.

        Examples
        --------
        >>> Calibration(slope=0.5, intercept=1.0).then(2.0, -0.5)
        Calibration(slope=1.0, intercept=1.5, method='linear')
        """
        return Calibration(self.slope * slope, self.intercept * slope + intercept)

    def summary(self) -> str:
        """Return the fit in words."""
        return f"slope {self.slope:.3f}, intercept {self.intercept:+.3f}"


def to_logits(probs: Values) -> Values:
    """Return log(p / (1 - p)), cut at -30 and 30 so that 0 and 1 stay finite.

    Examples
    --------
    >>> to_logits(np.array([0.0, 0.5, 1.0])).tolist()
    [-30.0, 0.0, 30.0]
    """
    if isinstance(probs, torch.Tensor):
        return torch.logit(probs).clamp(-LIMIT, LIMIT)
    flat = torch.from_numpy(np.array(probs, dtype=np.result_type(probs, np.float32)))
    return torch.logit(flat).clamp(-LIMIT, LIMIT).numpy()


def fit_calibration(logits: np.ndarray | torch.Tensor, truth: Lists, *, slope_only: bool = False) -> Calibration:
    """Return the slope and intercept that maximise the likelihood of the observed sets.

    Every cell (survey, species) is one observation of Platt's logistic model, logit P(y = 1) = slope x logit
    + intercept; with ``slope_only`` the intercept is 0 and 1 / slope is the temperature. The cells are
    gathered in bins 0.01 logits wide, each at its mean logit, so that the fit costs the same for any number
    of cells. A Gaussian prior worth a thousandth of one observation, centred on no change, keeps the result
    finite where the classes are separable. Observed species unknown to the model have no cell.

    Applied to a model's own calibrated output this is the *calibration slope and intercept* diagnostic: 1 and
    0 are perfect.

    Parameters
    ----------
    logits
        (N, S) logits of validation surveys; cut at -30 and 30. A memory map is read in blocks.
    truth
        The N observed sets.
    slope_only
        Fit a temperature alone.

    Raises
    ------
    TableError
        If a logit is NaN, the numbers of surveys differ or are 0, or no observed species has a column.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines, in Advances in Large Margin Classifiers.
    Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural networks, ICML, arXiv:1706.04599.
    Van Calster et al. (2019), Calibration: the Achilles heel of predictive analytics, BMC Medicine 17, 230,
    doi:10.1186/s12916-019-1466-7.

    Examples
    --------
    Half of the cells at logit 4 are present, and half of those at 0: the scores say nothing.

    >>> logits = np.array([[4.0, 4.0, 0.0, 0.0]] * 100)
    >>> fitted = fit_calibration(logits, Lists.from_rows([[0, 2]] * 100))
    >>> abs(round(fitted.slope, 3)), abs(round(fitted.intercept, 3))
    (0.0, 0.0)
    """
    (bins,) = logit_histograms(logits, truth)
    if slope_only:
        (slope,) = fit_logistic(bins.design[:, :1], bins, np.ones(1), PRIOR * np.eye(1))
        return Calibration(float(slope))
    slope, intercept = fit_logistic(bins.design, bins, np.array([1.0, 0.0]), PRIOR * np.eye(2))
    return Calibration(float(slope), float(intercept))


@dataclass(frozen=True, eq=False)
class LogitBins:
    """The bins in use of a table of logits, ascending: numbers of cells and of present cells, and mean logits."""

    count_M: np.ndarray
    present_M: np.ndarray
    logit_M: np.ndarray

    @property
    def design(self) -> np.ndarray:
        """Return the (M, 2) columns of slope and intercept."""
        return np.stack([self.logit_M, np.ones_like(self.logit_M)], axis=1)


def logit_histograms(
    logits: np.ndarray | torch.Tensor, truth: Lists, class_S: np.ndarray | None = None
) -> list[LogitBins]:
    """Return the binned cells of each class of species; without classes, of all species.

    Parameters
    ----------
    logits
        (N, S) logits; cut at -30 and 30.
    truth
        The N observed sets.
    class_S
        Class 0, 1, ... of each species. A class without species has no bins.

    Raises
    ------
    TableError
        If a logit is NaN, the numbers of surveys differ or are 0, or no observed species has a column.
    """
    if len(logits) != truth.num_surveys or not len(logits):
        raise TableError(
            f"{len(logits)} rows of logits for {truth.num_surveys} observed sets",
            expected="the same surveys, one or more, in the same order",
        )
    num_bins = round(2 * LIMIT / BIN_WIDTH)
    class_S = np.zeros(logits.shape[-1], np.int64) if class_S is None else np.asarray(class_S, np.int64)
    size = num_bins * (int(class_S.max(initial=0)) + 1)
    known = truth.to_csr(logits.shape[1])

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        if block_BS.isnan().any():
            raise TableError(
                f"{int(block_BS.isnan().sum())} logits are NaN from survey row {first} on",
                expected="numbers",
                action="Mask missing modalities before the model, or look for a diverged training run",
            )
        cut = block_BS.clamp(-LIMIT, LIMIT)
        bins_BS = ((cut + LIMIT) / BIN_WIDTH).long().clamp_(max=num_bins - 1).cpu().numpy()
        bins_BS += num_bins * class_S
        present = bins_BS[known[first : first + len(block_BS)].nonzero()]
        bins, values = bins_BS.reshape(-1), cut.reshape(-1).cpu().numpy()
        return np.stack(
            [
                np.bincount(bins, minlength=size),
                np.bincount(present, minlength=size),
                np.bincount(bins, weights=values, minlength=size),
            ]
        )

    totals = np.sum(map_blocks(work, logits), axis=0)
    if not totals[1].any():
        raise TableError("no observed species has a column", expected="validation surveys with known species")
    parts = []
    for count_M, present_M, total_M in totals.reshape(3, -1, num_bins).swapaxes(0, 1):
        used = count_M > 0
        parts.append(LogitBins(count_M[used], present_M[used], total_M[used] / count_M[used]))
    return parts


def fit_logistic(design_MD: np.ndarray, bins: LogitBins, start: np.ndarray, prior_DD: np.ndarray) -> np.ndarray:
    """Return the weights of the binned logistic model by Newton's method with step halving.

    Parameters
    ----------
    design_MD
        What is weighted, of each bin.
    bins
        The cells.
    start
        (D,) weights to begin with: the mean of the Gaussian prior.
    prior_DD
        Its precision.
    """
    count_M, present_M = bins.count_M, bins.present_M

    def loss(weights: np.ndarray) -> float:
        z_M = design_MD @ weights
        penalty = (weights - start) @ prior_DD @ (weights - start) / 2
        return float((count_M * np.logaddexp(0.0, z_M) - present_M * z_M).sum() + penalty)

    weights, current = start, loss(start)
    for _ in range(100):
        probs_M = 1 / (1 + np.exp(-np.clip(design_MD @ weights, -700, 700)))
        gradient = design_MD.T @ (count_M * probs_M - present_M) + prior_DD @ (weights - start)
        hessian = information(design_MD, count_M, probs_M) + prior_DD
        step = np.linalg.solve(hessian, gradient)
        while (new := loss(weights - step)) > current and np.abs(step).max() > 1e-10:
            step = step / 2
        if np.abs(step).max() < 1e-9:
            break
        weights, current = weights - step, new
    return weights


def information(design_MD: np.ndarray, count_M: np.ndarray, probs_M: np.ndarray) -> np.ndarray:
    """Return the (D, D) information that binned cells hold about the weights of a logistic model."""
    return design_MD.T @ (design_MD * (count_M * probs_M * (1 - probs_M))[:, None])


def reliability_table(probs: np.ndarray | torch.Tensor, truth: Lists, *, num_bins: int = 20) -> pl.DataFrame:
    """Return predicted against observed frequency, in bins of equal width in log-odds.

    Parameters
    ----------
    probs
        (N, S) probabilities.
    truth
        The N observed sets.
    num_bins
        Bins between logit -10 and 10; the first and the last take what lies beyond.

    Returns
    -------
    polars.DataFrame
        ``mean_prob, observed_share, num_cells``, one row for each bin that holds a cell, ascending.

    Raises
    ------
    TableError
        If a probability is NaN or outside [0, 1], or the numbers of surveys differ or are 0.

    Examples
    --------
    >>> reliability_table(np.array([[0.5, 0.5, 0.01]]), Lists.from_rows([[0]])).rows()
    [(0.01, 0.0, 1), (0.5, 0.5, 2)]
    """
    if len(probs) != truth.num_surveys or not len(probs):
        raise TableError(f"{len(probs)} rows of probabilities for {truth.num_surveys} observed sets")
    known = truth.to_csr(probs.shape[1])
    edges = torch.sigmoid(torch.linspace(-10, 10, num_bins + 1, dtype=torch.float64)[1:-1])

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        bins_BS = torch.bucketize(block_BS.double().cpu(), edges, right=True).numpy()
        present = bins_BS[known[first : first + len(block_BS)].nonzero()]
        values = block_BS.reshape(-1).cpu().numpy()
        return np.stack(
            [
                np.bincount(bins_BS.reshape(-1), weights=values, minlength=num_bins),
                np.bincount(present, minlength=num_bins),
                np.bincount(bins_BS.reshape(-1), minlength=num_bins),
            ]
        )

    total_M, present_M, count_M = np.sum(map_blocks(work, probs, probs=True), axis=0)
    used = count_M > 0
    return pl.DataFrame(
        {
            "mean_prob": total_M[used] / count_M[used],
            "observed_share": present_M[used] / count_M[used],
            "num_cells": count_M[used].astype(np.int64),
        }
    )
