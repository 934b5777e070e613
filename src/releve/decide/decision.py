"""What a run has learned about turning its logits into lists: calibration, rule and the rule's setting."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.rules import FITS, RULES
from releve.errors import pick
from releve.metrics import Lists


class DecideConfig(BaseModel):
    """How probabilities become species lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["expected_f1", "top_k", "threshold", "species_threshold"] = "expected_f1"
    """``expected_f1`` gives each survey the list with the highest expected F1; the others use one fitted setting."""
    calibrate: bool = True
    """Fit slope and intercept of the logits on validation rows first."""


class Decision(BaseModel):
    """Calibration and rule with its setting, fitted on validation rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    setting: float | list[float] | None
    slope: float
    intercept: float

    def probs(self, logits: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities of the same shape."""
        return Calibration(self.slope, self.intercept).apply(logits)

    def lists(self, probs: np.ndarray | torch.Tensor) -> Lists:
        """Return the species list of each row of calibrated probabilities."""
        setting = np.asarray(self.setting) if isinstance(self.setting, list) else self.setting
        return pick(RULES, self.rule, what="rule")(probs, setting)


def fit_decision(logits: torch.Tensor, truth: Lists, config: DecideConfig) -> Decision:
    """Return the calibration and the rule's setting that suit validation rows best.

    Parameters
    ----------
    logits
        (N, S) logits of validation rows, each by members that were not trained on it.
    truth
        Their observed sets.
    config
        The rule, and whether to calibrate.

    Examples
    --------
    >>> logits = torch.tensor([[3.0, -2.0, -1.0], [2.0, -3.0, 1.0]])
    >>> truth = Lists.from_rows([[0], [0, 2]])
    >>> decision = fit_decision(logits, truth, DecideConfig(rule="top_k", calibrate=False))
    >>> decision.setting, decision.lists(decision.probs(logits)).row(1).tolist()
    (1.0, [0])
    """
    calibration = fit_calibration(logits, truth) if config.calibrate else Calibration()
    fit: Any = FITS[config.rule]
    setting = fit(calibration.apply(logits), truth)
    if isinstance(setting, np.ndarray):
        setting = setting.tolist()
    elif setting is not None:
        setting = float(setting)
    return Decision(rule=config.rule, setting=setting, slope=calibration.slope, intercept=calibration.intercept)
