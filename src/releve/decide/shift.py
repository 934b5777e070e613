"""Surveys to be listed that differ from the calibration surveys: by how much, and what their prevalences are."""

# N calibration surveys, M surveys to be listed, B surveys of a region, S species, F features, D terms

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from releve.errors import TableError

LARGEST_RATIO = 20.0
"""Ratios are cut here: one survey must not outweigh the others."""


STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the ridge that are tried."""


@dataclass(frozen=True, eq=False)
class ShiftWeights:
    """Ratios of the density of target places to that of calibration places, at both.

    ``effective_size`` is the number of equally weighted calibration surveys that are worth as much, (sum w)^2 /
    sum w^2; ``auc`` tells how well the two can be told apart, .5 if not at all.
    """

    calibration_N: np.ndarray
    target_M: np.ndarray
    effective_size: float
    auc: float


def shift_weights(calibration_NF: np.ndarray, target_MF: np.ndarray, *, seed: int = 0) -> ShiftWeights:
    """Return what calibration surveys weigh where their environment is not that of the target.

    A logistic model on the features, standardised and squared, tells targets from calibration surveys; its strength is
    chosen and its odds are taken out of fold (five random folds). The ratio of densities is the odds times N / M, cut
    at 20, and scaled to mean 1 over the calibration surveys.

    Parameters
    ----------
    calibration_NF, target_MF
        Environment of both; NaN is taken as the mean of the feature.
    seed
        Of the folds.

    Raises
    ------
    TableError
        If a table is not two-dimensional, has fewer than 10 surveys, or the numbers of features differ.

    References
    ----------
    Tibshirani, Barber, Candès & Ramdas (2019), Conformal prediction under covariate shift, NeurIPS, arXiv:1904.06019.
    Kong (1992), A note on importance sampling using standardized weights, University of Chicago, technical report 348.

    Examples
    --------
    Half of the calibration surveys lie where no target does:

    >>> rng = np.random.default_rng(0)
    >>> here = np.r_[rng.normal(-3, 0.5, 200), rng.normal(3, 0.5, 200)][:, None]
    >>> found = shift_weights(here, rng.normal(3, 0.5, (200, 1)))
    >>> bool(found.calibration_N[:200].mean() < 0.1), 150 < found.effective_size < 220
    (True, True)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    for name, table in (("calibration", calibration_NF), ("target", target_MF)):
        if table.ndim != 2 or len(table) < 10 or table.shape[1:] != calibration_NF.shape[1:]:
            raise TableError(
                f"features of {name} surveys have shape {table.shape}",
                expected="at least 10 surveys, and the same features for both",
            )
    num_calibration, num_target = len(calibration_NF), len(target_MF)
    both = np.concatenate([calibration_NF, target_MF]).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature without a value
        mean_F, deviation_F = np.nanmean(both, axis=0), np.nanstd(both, axis=0)
    scaled = np.nan_to_num((both - mean_F) / np.where(deviation_F > 0, deviation_F, 1.0)).clip(-5, 5)
    terms = np.concatenate([scaled, scaled**2 - 1], axis=1)
    is_target = np.repeat([0, 1], [num_calibration, num_target])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    tried = [
        cross_val_predict(LogisticRegression(C=c, max_iter=500), terms, is_target, cv=folds, method="predict_proba")
        for c in STRENGTHS
    ]
    probs = min(tried, key=lambda out_of_fold: float(log_loss(is_target, out_of_fold)))[:, 1]
    ratio = np.minimum(probs / np.maximum(1 - probs, 1e-12) * num_calibration / num_target, LARGEST_RATIO)
    ratio = ratio / ratio[:num_calibration].mean()
    calibration_N, target_M = ratio[:num_calibration], ratio[num_calibration:]
    effective = calibration_N.sum() ** 2 / (calibration_N**2).sum()
    return ShiftWeights(calibration_N, target_M, float(effective), float(roc_auc_score(is_target, probs)))
