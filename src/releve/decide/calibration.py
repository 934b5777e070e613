"""Calibration on the logit scale: slope and intercept fitted on held-out surveys."""

# N surveys, B surveys of a block, S species, M bins of logits

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from releve.decide.blocks import check_rows, map_blocks
from releve.errors import TableError
from releve.lists import Lists
from releve.metrics.cells import BIN_WIDTH, LIMIT, NUM_BINS, fit_line

Values = TypeVar("Values", np.ndarray, torch.Tensor)


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

    def apply(self, logits: Values) -> Values:
        """Return calibrated probabilities of the same shape, kind and precision as the logits."""
        if isinstance(logits, torch.Tensor):
            return (self.slope * logits).add_(self.intercept).sigmoid_()
        z = self.slope * np.asarray(logits) + self.intercept
        return torch.sigmoid(torch.from_numpy(np.atleast_1d(z))).numpy().reshape(z.shape)

    def then(self, slope: float, intercept: float) -> Calibration:
        """Return this calibration followed by another slope and intercept.

        Examples
        --------
        >>> Calibration(slope=0.5, intercept=1.0).then(2.0, -0.5)
        Calibration(slope=1.0, intercept=1.5)
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


def fit_calibration(logits: np.ndarray | torch.Tensor, truth: Lists) -> Calibration:
    """Return the slope and intercept that maximise the likelihood of the observed sets.

    Every cell (survey, species) is one observation of Platt's logistic model, logit P(y = 1) = slope x logit
    + intercept. The cells are gathered in bins 0.01 logits wide, each at its mean logit, so that the fit costs the
    same for any number of cells. Observed species unknown to the model have no cell.

    Applied to a model's own calibrated output this is the *calibration slope and intercept* diagnostic: 1 and
    0 are perfect.

    Parameters
    ----------
    logits
        (N, S) logits of held-out surveys; cut at -30 and 30. A memory map is read in blocks.
    truth
        The N observed sets.

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
    check_rows(logits, truth)
    known = truth.to_csr(logits.shape[1])

    def work(first: int, block_BS: torch.Tensor) -> np.ndarray:
        if block_BS.isnan().any():
            raise TableError(
                f"{int(block_BS.isnan().sum())} logits are NaN from survey row {first} on",
                expected="numbers",
                action="Mask missing modalities before the model, or look for a diverged training run",
            )
        cut = block_BS.clamp(-LIMIT, LIMIT)
        bins_BS = ((cut + LIMIT) / BIN_WIDTH).long().clamp_(max=NUM_BINS - 1).cpu().numpy()
        present = bins_BS[known[first : first + len(block_BS)].nonzero()]
        bins, values = bins_BS.reshape(-1), cut.reshape(-1).cpu().numpy()
        return np.stack(
            [
                np.bincount(bins, minlength=NUM_BINS),
                np.bincount(present, minlength=NUM_BINS),
                np.bincount(bins, weights=values, minlength=NUM_BINS),
            ]
        )

    count_M, present_M, total_M = np.sum(map_blocks(work, logits), axis=0)
    if not present_M.any():
        raise TableError("no observed species has a column", expected="held-out surveys with known species")
    used = count_M > 0
    return Calibration(*fit_line(total_M[used] / count_M[used], count_M[used], present_M[used]))
