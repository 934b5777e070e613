"""How much each kind of member counts in the mean of their probabilities."""

# N surveys, B surveys of a block, S species, K kinds of member, M cells

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.optimize
import torch

from releve.decide.blocks import map_blocks
from releve.decide.calibration import Calibration
from releve.lists import Lists

SAMPLE_SURVEYS = 20_000
"""More surveys than this are sampled: the weights then are known to the second digit anyway."""

SURVEYS_PER_WEIGHT = 50
"""Surveys that equal weights count for, for each free weight: see :func:`fit_weights`."""

SMALL = 0.01
"""Absences that no kind gives more than this enter through their moments."""


def fit_weights(
    logits: Sequence[np.ndarray | torch.Tensor],
    calibrations: Sequence[Calibration],
    truth: Lists,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Return (K,) weights of 0 or more that sum to 1: the likeliest mixture of probabilities, drawn to equal weights.

    The likelihood of the observed sets is that of independent cells with probability w_1 p_1 + ... + w_K p_K. Its
    logarithm is concave in the weights, so the maximum is found whatever the start: by Newton steps, each a small
    least-squares problem on the simplex, until no weights can be more than a ten-millionth of a nat a presence better.
    Memory stays small because absences of low probability, nearly all cells, enter as log(1 - p) = -p - p^2 / 2 through
    the K means and K x K products of their probabilities (what this leaves out is p^3 / 3, under a thirtieth of a
    thousandth of p).

    The result is (N w + n / K) / (N + n) with n = 50 (K - 1): equal weights count as much as 50 surveys for each free
    weight. Averages with estimated weights often lose to the plain mean out of sample, the more so the more members
    and the fewer cases; 10 to 20 independent cases for an estimated coefficient is the usual rule of thumb in
    regression, and surveys of one block are alike, about 3 to 5 for one.

    Parameters
    ----------
    logits
        K tables of (N, S) logits of validation surveys; memory maps are read in blocks.
    calibrations
        K calibrations.
    truth
        The N observed sets.
    seed
        Of the sample of surveys.

    References
    ----------
    Raftery, Gneiting, Balabdaoui & Polakowski (2005), Using Bayesian model averaging to calibrate forecast ensembles,
    Monthly Weather Review 133, 1155-1174, doi:10.1175/MWR2906.1.
    Claeskens, Magnus, Vasnev & Wang (2016), The forecast combination puzzle: a simple theoretical explanation,
    International Journal of Forecasting 32, 754-762, doi:10.1016/j.ijforecast.2015.12.005.
    Harrell (2015), Regression modeling strategies, section 4.4, doi:10.1007/978-3-319-19425-7.

    Examples
    --------
    The first kind knows everything and the second nothing:

    >>> from releve.decide.calibration import Calibration
    >>> sure = np.array([[9.0, -9.0], [-9.0, 9.0]] * 475)
    >>> truth = Lists.from_rows([[0], [1]] * 475)
    >>> fit_weights([sure, np.zeros((950, 2))], [Calibration(), Calibration()], truth).round(3).tolist()
    [0.975, 0.025]
    """
    num_kinds = len(logits)
    if num_kinds == 1:
        return np.ones(1)
    present_MK, absent_MK, mean_K, square_KK = _cells(logits, calibrations, truth, seed)
    likeliest_K = _maximise(present_MK, absent_MK, mean_K, square_KK)
    num_equal = SURVEYS_PER_WEIGHT * (num_kinds - 1)
    return (truth.num_surveys * likeliest_K + num_equal / num_kinds) / (truth.num_surveys + num_equal)


def _cells(
    logits: Sequence[np.ndarray | torch.Tensor], calibrations: Sequence[Calibration], truth: Lists, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the K probabilities of presences and of likely absences, and the two moments of all other absences."""
    num_surveys, num_species = logits[0].shape
    known = truth.to_csr(num_species)
    sampled_N = np.ones(num_surveys, bool)
    if num_surveys > SAMPLE_SURVEYS:
        sampled_N[:] = False
        sampled_N[np.random.default_rng(seed).choice(num_surveys, SAMPLE_SURVEYS, replace=False)] = True

    def work(first: int, block_BS: torch.Tensor) -> tuple[np.ndarray, ...]:
        rows = first + np.flatnonzero(sampled_N[first : first + len(block_BS)])
        parts = (
            calibration.apply(torch.as_tensor(np.asarray(values[rows]))).numpy()
            for values, calibration in zip(logits, calibrations, strict=True)
        )
        cells_KM = np.stack([part.reshape(-1) for part in parts]).astype(np.float64).clip(1e-12, 1 - 1e-7)
        present_M = known[rows].toarray().reshape(-1) > 0
        small_M = ~present_M & (cells_KM.max(axis=0) < SMALL)
        small_KM = cells_KM[:, small_M]
        likely_KM = cells_KM[:, ~present_M & ~small_M]
        return cells_KM[:, present_M].T, likely_KM.T, small_KM.sum(axis=1), small_KM @ small_KM.T

    present, absent, mean, square = zip(*map_blocks(work, logits[0]), strict=True)
    return np.concatenate(present), np.concatenate(absent), np.sum(mean, axis=0), np.sum(square, axis=0)


def _maximise(present_MK: np.ndarray, absent_MK: np.ndarray, mean_K: np.ndarray, square_KK: np.ndarray) -> np.ndarray:
    """Return the weights on the simplex with the least negative log-likelihood, by Newton's method."""

    def loss(weights_K: np.ndarray) -> float:
        cells = np.log(present_MK @ weights_K).sum() + np.log1p(-(absent_MK @ weights_K)).sum()
        return float(mean_K @ weights_K + weights_K @ square_KK @ weights_K / 2 - cells)

    weights_K = np.full(len(mean_K), 1 / len(mean_K))
    current = loss(weights_K)
    for _ in range(100):
        hits_MK = present_MK / (present_MK @ weights_K)[:, None]
        misses_MK = absent_MK / (1 - absent_MK @ weights_K)[:, None]
        gradient_K = mean_K + square_KK @ weights_K - hits_MK.sum(axis=0) + misses_MK.sum(axis=0)
        if weights_K @ gradient_K - gradient_K.min() <= 1e-7 * max(len(present_MK), 1):
            break
        hessian_KK = square_KK + hits_MK.T @ hits_MK + misses_MK.T @ misses_MK
        step_K = _simplex_minimum(hessian_KK, gradient_K - hessian_KK @ weights_K) - weights_K
        while (new := loss(weights_K + step_K)) > current and np.abs(step_K).max() > 1e-12:
            step_K = step_K / 2
        weights_K, current = weights_K + step_K, new
    return weights_K


def _simplex_minimum(hessian_KK: np.ndarray, linear_K: np.ndarray) -> np.ndarray:
    """Return the w on the simplex with the least w H w / 2 + l w, as non-negative least squares."""
    scale = np.trace(hessian_KK) / len(linear_K)
    root_KK = np.linalg.cholesky(hessian_KK / scale + 1e-10 * np.eye(len(linear_K)))
    target_K = -np.linalg.solve(root_KK, linear_K / scale)
    heavy = 1e4  # holds the sum at 1
    weights_K, _ = scipy.optimize.nnls(
        np.vstack([root_KK.T, np.full(len(linear_K), heavy)]), np.append(target_K, heavy)
    )
    return np.asarray(weights_K / weights_K.sum())
