"""Kinds of member that are calibrated one by one, made calibrated together: their mean is drawn out first."""

# N surveys, S species, K kinds of member

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from releve.decide.calibration import Calibration, fit_calibration, to_logits
from releve.decide.weights import SAMPLE_SURVEYS
from releve.lists import Lists

MAX_STEPS = 8
SLOPE_ERROR, INTERCEPT_ERROR = 0.002, 0.005
"""Nearer to 1 and 0 than this, the slope and intercept of the mean are left as they are."""
SLOPES = (0.5, 2.0)
"""A step does not go beyond: the mean of calibrated kinds is never that far off unless there is next to no data."""


def draw_out(
    logits: Sequence[np.ndarray | torch.Tensor],
    calibrations: Sequence[Calibration],
    shares: Sequence[float],
    truth: Lists,
    *,
    seed: int = 0,
) -> list[Calibration]:
    """Return the K calibrations, each with the same slope and intercept more, so that their mean is calibrated.

    The mean of calibrated probabilities is timid wherever the kinds know different things: each holds back for what it
    does not know, and the others do. So all kinds' calibrated logits are stretched by one slope and shifted by one
    intercept, such that the calibration slope of the mean is 1 and its intercept 0 (the spread-adjusted linear pool).
    Each step fits both to the mean and hands them on to the kinds; two or three steps are enough.

    Parameters
    ----------
    logits
        K tables of (N, S) logits of validation surveys.
    calibrations
        K calibrations, each fitted to its kind.
    shares
        K weights of the mean.
    truth
        The N observed sets.
    seed
        Of the sample, where there are more surveys than ``releve.decide.weights.SAMPLE_SURVEYS``.

    References
    ----------
    Ranjan & Gneiting (2010), Combining probability forecasts, Journal of the Royal Statistical Society B 72, 71-91,
    doi:10.1111/j.1467-9868.2009.00726.x.
    Gneiting & Ranjan (2013), Combining predictive distributions, Electronic Journal of Statistics 7, 1747-1782,
    doi:10.1214/13-EJS823.

    Examples
    --------
    Of two species, each kind knows one: it is there or not. The other is a coin to it. The mean says .75 and .25
    of what is sure.

    >>> from releve.decide.calibration import Calibration
    >>> drawn = np.random.default_rng(0).random((400, 2)) < 0.5
    >>> sure = np.where(drawn, 6.0, -6.0)
    >>> truth = Lists.from_pairs(*np.nonzero(drawn), 400)
    >>> kinds = [sure * [1, 0], sure * [0, 1]]
    >>> found = draw_out(kinds, [Calibration(), Calibration()], [0.5, 0.5], truth)
    >>> found[0] == found[1], found[0].slope > 1
    (True, True)
    """
    found = list(calibrations)
    if len(found) < 2:
        return found
    rows = np.arange(truth.num_surveys)
    if len(rows) > SAMPLE_SURVEYS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE_SURVEYS, replace=False))
        truth = truth.take(rows)
    tables = [torch.as_tensor(np.asarray(table[rows])) for table in logits]
    for _ in range(MAX_STEPS):
        mean_NS = torch.zeros_like(tables[0])
        for table, calibration, share in zip(tables, found, shares, strict=True):
            mean_NS += share * calibration.apply(table)
        fitted = fit_calibration(to_logits(mean_NS.clamp_(1e-12, 1 - 1e-7)), truth)
        if abs(fitted.slope - 1) < SLOPE_ERROR and abs(fitted.intercept) < INTERCEPT_ERROR:
            break
        slope = min(max(fitted.slope, SLOPES[0]), SLOPES[1])
        found = [calibration.then(slope, fitted.intercept) for calibration in found]
    return found
