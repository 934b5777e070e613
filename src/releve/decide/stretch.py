"""Means over folds made as sharp as they may be: a calibration fitted on single folds leaves their mean timid."""

# N surveys, S species

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from releve.decide.calibration import fit_calibration, to_logits
from releve.lists import Lists

MIN_SURVEYS = 100
"""With fewer surveys that two folds predict untrained, nothing is stretched."""
LARGEST = 1.3
"""The slope of a mean of two is not believed beyond this."""


class FoldStretch(BaseModel):
    """Slope and intercept that the mean of two folds' probabilities wants, against that of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope_of_two: float = 1.0
    intercept_of_two: float = 0.0

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
        if self == FoldStretch() or num_folds == 1:
            return probs
        shift = self.intercept_of_two * 2 * (1 - 1 / num_folds)
        return torch.sigmoid(self.slope(num_folds) * torch.logit(probs, eps=1e-7) + shift)


def fit_stretch(first_NS: torch.Tensor, second_NS: torch.Tensor, truth: Lists) -> FoldStretch:
    """Return how the mean of two folds' probabilities is calibrated, against each of them.

    Parameters
    ----------
    first_NS, second_NS
        Calibrated probabilities of the same surveys, by members of two folds, neither of them trained on these surveys.
    truth
        The N observed sets.
    """
    if truth.num_surveys < MIN_SURVEYS:
        return FoldStretch()
    one, other, both = (
        fit_calibration(to_logits(probs), truth) for probs in (first_NS, second_NS, (first_NS + second_NS) / 2)
    )
    slope = both.slope / math.sqrt(one.slope * other.slope)
    shift = both.intercept - (one.intercept + other.intercept) / 2
    return FoldStretch(slope_of_two=float(np.clip(slope, 1.0, LARGEST)), intercept_of_two=shift if slope > 1 else 0.0)
