"""The calibrations by name: ``CALIBRATIONS[name](logits, truth, counts_S)`` fits one on validation surveys."""

# N surveys, S species, C classes of species, M bins of logits, G knots

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import scipy.optimize
import torch
from pydantic import Field

from releve.decide.calibration import Calibration, Values, fit_calibration, fit_logistic, information, logit_histograms
from releve.errors import TableError
from releve.lists import Lists

CLASS_ENDS = (10, 30, 100, 500)
"""Last number of presences of each class of frequency but the last: up to 10, 11 to 30, ... and over 500."""

CLASS_PRIOR = 30.0
"""Observed presences that the fit to all species counts for in the fit of a class."""

PSEUDO_CELLS = 1.0
"""Cells that the straight fit counts for in every bin of the isotonic one: no probability is 0 or 1."""


@dataclass(frozen=True)
class MonotoneCalibration:
    """Calibrated logit = a rising broken line through knots; beyond them it goes on with ``slope``.

    Examples
    --------
    >>> line = MonotoneCalibration(logits=(-1.0, 1.0), calibrated=(-2.0, 0.0), slope=2.0)
    >>> line.apply(np.array([-2.0, 0.0, 1.0])).round(4).tolist()
    [0.018, 0.2689, 0.5]
    """

    logits: tuple[float, ...]
    """(G,) ascending."""
    calibrated: tuple[float, ...]
    """(G,) ascending."""
    slope: float
    """Above 0."""
    method: Literal["monotone"] = "monotone"

    def apply(self, logits: Values) -> Values:
        """Return calibrated probabilities of the same shape, kind and precision as the logits."""
        if not isinstance(logits, torch.Tensor):
            return self.apply(torch.from_numpy(np.asarray(logits))).numpy()
        x_G, y_G = (logits.new_tensor(values) for values in (self.logits, self.calibrated))
        inside = logits.clamp(x_G[0], x_G[-1])
        z = y_G[0] + self.slope * (logits - inside)
        if len(x_G) > 1:
            left = (torch.searchsorted(x_G, inside.contiguous(), right=True) - 1).clamp_(0, len(x_G) - 2)
            rise_G = (y_G[1:] - y_G[:-1]) / (x_G[1:] - x_G[:-1])
            z = y_G[left] + rise_G[left] * (inside - x_G[left]) + self.slope * (logits - inside)
        return torch.sigmoid(z)

    def then(self, slope: float, intercept: float) -> MonotoneCalibration:
        """Return this calibration followed by a slope above 0 and an intercept."""
        calibrated = tuple(slope * value + intercept for value in self.calibrated)
        return MonotoneCalibration(self.logits, calibrated, self.slope * slope)

    def summary(self) -> str:
        """Return the fit in words."""
        return f"isotonic, {len(self.logits)} knots"


@dataclass(frozen=True)
class ClassCalibration:
    """Calibrated logit = slope x logit + intercept, with the slope and intercept of the species' class.

    Examples
    --------
    >>> two = ClassCalibration(slopes=(1.0, 0.5), intercepts=(0.0, 1.0), classes=(0, 1, 1))
    >>> two.apply(np.array([[0.0, 0.0, -2.0]])).round(3).tolist()
    [[0.5, 0.731, 0.5]]
    """

    slopes: tuple[float, ...]
    """(C,) slopes."""
    intercepts: tuple[float, ...]
    """(C,) intercepts."""
    classes: tuple[int, ...]
    """(S,) class of each species."""
    method: Literal["class"] = "class"

    def apply(self, logits: Values) -> Values:
        """Return calibrated probabilities of the same shape, kind and precision as the (..., S) logits."""
        if not isinstance(logits, torch.Tensor):
            return self.apply(torch.from_numpy(np.asarray(logits))).numpy()
        class_S = torch.tensor(self.classes, device=logits.device)
        slope_S, intercept_S = (logits.new_tensor(values)[class_S] for values in (self.slopes, self.intercepts))
        return torch.sigmoid(slope_S * logits + intercept_S)

    def then(self, slope: float, intercept: float) -> ClassCalibration:
        """Return this calibration followed by another slope and intercept."""
        slopes = tuple(slope * value for value in self.slopes)
        intercepts = tuple(slope * value + intercept for value in self.intercepts)
        return ClassCalibration(slopes, intercepts, self.classes)

    def summary(self) -> str:
        """Return the fit in words."""
        pairs = zip(self.slopes, self.intercepts, strict=True)
        return "by frequency, rare first: " + "; ".join(f"{slope:.3f}, {start:+.3f}" for slope, start in pairs)


AnyCalibration = Annotated[Calibration | MonotoneCalibration | ClassCalibration, Field(discriminator="method")]
Fit = Callable[[np.ndarray | torch.Tensor, Lists, np.ndarray | None], AnyCalibration]


def fit_isotonic(logits: np.ndarray | torch.Tensor, truth: Lists) -> MonotoneCalibration:
    """Return the rising broken line that fits the observed shares of bins of logits best.

    Bins 0.01 logits wide are pooled until their shares rise (pool adjacent violators). The line joins the pools at
    their mean logits, as in centred isotonic regression, so that it rises everywhere and no two scores become equal.
    Every bin holds one cell more, at the probability of Platt's straight fit, which decides where there are no
    presences; beyond the outermost pools the line goes on with its slope.

    Parameters
    ----------
    logits
        (N, S) logits of validation surveys; cut at -30 and 30. A memory map is read in blocks.
    truth
        The N observed sets.

    Raises
    ------
    TableError
        If a logit is NaN, the numbers of surveys differ or are 0, or no observed species has a column.

    References
    ----------
    Zadrozny & Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates, KDD,
    doi:10.1145/775047.775151.
    Oron & Flournoy (2017), Centered isotonic regression, Statistics in Biopharmaceutical Research 9, 258-267,
    doi:10.1080/19466315.2017.1286256.

    Examples
    --------
    Of 100 cells at each logit, 10, 30, 20 and 80 are present: the second and third are pooled.

    >>> logits = np.array([[-2.0, -1.0, 0.0, 2.0]] * 100)
    >>> truth = Lists.from_rows([[s for s, n in enumerate((10, 30, 20, 80)) if i < n] for i in range(100)])
    >>> fitted = fit_isotonic(logits, truth)
    >>> fitted.logits, fitted.apply(np.array(fitted.logits)).round(2).tolist()
    ((-2.0, -0.5, 2.0), [0.1, 0.25, 0.8])
    """
    (bins,) = logit_histograms(logits, truth)
    start = np.array([1.0, 0.0])
    slope, intercept = fit_logistic(bins.design, bins, start, 1e-3 * np.eye(2))
    prior_M = 1 / (1 + np.exp(-(slope * bins.logit_M + intercept)))
    weight_M = bins.count_M + PSEUDO_CELLS
    pools = scipy.optimize.isotonic_regression((bins.present_M + PSEUDO_CELLS * prior_M) / weight_M, weights=weight_M)
    edges = pools.blocks[:-1]
    centre_G = np.add.reduceat(weight_M * bins.logit_M, edges) / np.add.reduceat(weight_M, edges)
    share_G = np.clip(pools.x[edges], 1e-12, 1 - 1e-12)
    knots = np.log(share_G) - np.log1p(-share_G)
    return MonotoneCalibration(tuple(centre_G.tolist()), tuple(knots.tolist()), max(float(slope), 1e-3))


def fit_by_class(
    logits: np.ndarray | torch.Tensor, truth: Lists, counts_S: np.ndarray | None = None
) -> ClassCalibration:
    """Return a slope and an intercept for each class of frequency, shrunken to those of all species.

    The classes hold the species with up to 10, 30, 100 and 500 presences and the others. A class' fit has a Gaussian
    prior around the fit to all species, as strong as 30 presences are in that fit: a class with few presences stays
    near it.

    Parameters
    ----------
    logits
        (N, S) logits of validation surveys; cut at -30 and 30. A memory map is read in blocks.
    truth
        The N observed sets.
    counts_S
        Training presences of each species; without them, presences among the N sets.

    Raises
    ------
    TableError
        If a logit is NaN, the numbers of surveys differ or are 0, no observed species has a column, or ``counts_S``
        does not hold one number for each species.

    Examples
    --------
    Both species have logit 0; one is on 11 of 20 surveys, the other on 1, and both are drawn to the 6 of 20 of all.

    >>> truth = Lists.from_rows([[0, 1] if i == 0 else [0] if i % 2 else [] for i in range(20)] * 20)
    >>> fitted = fit_by_class(np.zeros((400, 2)), truth)
    >>> fitted.classes, fitted.apply(np.zeros((1, 2))).round(2).tolist()
    ((3, 1), [[0.5, 0.11]])
    """
    num_species = logits.shape[-1]
    if counts_S is None:
        counts_S = np.bincount(truth.indices[truth.indices < num_species], minlength=num_species)
    if counts_S.shape != (num_species,):
        raise TableError(f"counts of shape {counts_S.shape}", expected=f"one for each of the {num_species} species")
    class_S = np.searchsorted(CLASS_ENDS, counts_S)
    (every,) = logit_histograms(logits, truth)
    pooled = fit_logistic(every.design, every, np.array([1.0, 0.0]), 1e-3 * np.eye(2))
    probs_M = 1 / (1 + np.exp(-every.design @ pooled))
    prior = information(every.design, every.count_M, probs_M) * CLASS_PRIOR / every.present_M.sum()
    prior += 1e-9 * np.trace(prior) * np.eye(2)  # constant scores say nothing of the slope
    fits = [fit_logistic(bins.design, bins, pooled, prior) for bins in logit_histograms(logits, truth, class_S)]
    fits += [pooled] * (len(CLASS_ENDS) + 1 - len(fits))
    slopes, intercepts = (tuple(float(fit[i]) for fit in fits) for i in (0, 1))
    return ClassCalibration(slopes, intercepts, tuple(class_S.tolist()))


CALIBRATIONS: dict[str, Fit] = {
    "platt": lambda logits, truth, counts_S: fit_calibration(logits, truth),
    "temperature": lambda logits, truth, counts_S: fit_calibration(logits, truth, slope_only=True),
    "isotonic": lambda logits, truth, counts_S: fit_isotonic(logits, truth),
    "frequency_class": fit_by_class,
    "none": lambda logits, truth, counts_S: Calibration(),
}
