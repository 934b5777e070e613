"""Means over folds made as sharp as they may be: a calibration fitted on single folds leaves their mean timid."""

# N surveys, S species

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict

from releve.decide.calibration import fit_calibration, to_logits
from releve.lists import Lists

MIN_SURVEYS = 100
"""With fewer surveys that two folds predict untrained, nothing is stretched."""
LARGEST = 1.3
"""The slope of a mean of two is not believed beyond this; simulated worlds had 1.03 to 1.05."""


class FoldStretch(BaseModel):
    """Slope that the mean of two folds' probabilities wants, against that of one, and where it turns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope_of_two: float = 1.0
    pivot: float = 0.0
    """Logit that stays where it is: the mean probability is then kept."""

    def slope(self, num_folds: int) -> float:
        """Return the slope that the mean of so many folds wants.

        What members err by of their own is averaged away: of k, a k-th of its variance is left. So the inverse of the
        slope falls in a straight line with 1 - 1 / k, of which one is at 0 and two are at one half.

        Examples
        --------
        >>> [round(FoldStretch(slope_of_two=1.05).slope(number), 3) for number in (1, 2, 5)]
        [1.0, 1.05, 1.082]
        """
        return 1 / (1 - (1 - 1 / self.slope_of_two) * 2 * (1 - 1 / num_folds))

    def apply(self, probs: torch.Tensor, num_folds: int) -> torch.Tensor:
        """Return the mean of so many folds' calibrated probabilities, as sharp as one fold's are right to be."""
        if self.slope_of_two == 1 or num_folds == 1:
            return probs
        return torch.sigmoid(self.pivot + self.slope(num_folds) * (torch.logit(probs, eps=1e-7) - self.pivot))


def fit_stretch(first_NS: torch.Tensor, second_NS: torch.Tensor, truth: Lists) -> FoldStretch:
    """Return how the mean of two folds' probabilities is calibrated, against each of them.

    Nothing is stretched where there is too little to tell by: few surveys, none with a species, or members that know
    nothing of these surveys.

    Parameters
    ----------
    first_NS, second_NS
        Calibrated probabilities of the same surveys, by members of two folds, neither of them trained on these surveys.
    truth
        The N observed sets.
    """
    if truth.num_surveys < MIN_SURVEYS or not (truth.indices < first_NS.shape[1]).any():
        return FoldStretch()
    mean_NS = (first_NS + second_NS) / 2
    one, other, both = (fit_calibration(to_logits(probs), truth).slope for probs in (first_NS, second_NS, mean_NS))
    if one <= 0 or other <= 0:
        return FoldStretch()
    slope = min(max(both / math.sqrt(one * other), 1.0), LARGEST)
    return FoldStretch(slope_of_two=slope, pivot=_pivot(mean_NS, slope) if slope > 1 else 0.0)


def _pivot(probs_NS: torch.Tensor, slope: float) -> float:
    """Return the logit about which a slope leaves the mean probability as it is, by bisection."""
    logits, mean = torch.logit(probs_NS, eps=1e-7), float(probs_NS.mean())
    low, high = float(logits.min()), float(logits.max())
    for _ in range(40):
        middle = (low + high) / 2
        too_low = float(torch.sigmoid(middle + slope * (logits - middle)).mean()) > mean  # a low pivot lifts the rest
        low, high = (middle, high) if too_low else (low, middle)
    return (low + high) / 2
