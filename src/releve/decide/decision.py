"""What a run has learned about turning its logits into lists: calibration, shares of the kinds of member, rule."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.rules import FITS, RULES
from releve.errors import pick
from releve.metrics import Lists

SHARES = tuple(k / 10 for k in range(11))
"""Shares of the first kind of member that are tried."""


class DecideConfig(BaseModel):
    """How probabilities become species lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["expected_f1", "top_k", "threshold", "species_threshold"] = "expected_f1"
    """``expected_f1`` gives each survey the list with the highest expected F1; the others use one fitted setting."""
    calibrate: bool = True
    """Fit slope and intercept of the logits on validation rows first, for each kind of member."""


class KindDecision(BaseModel):
    """One kind of member: its calibration, and its share in the mean of probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = 1.0
    intercept: float = 0.0
    share: float = 1.0


class Decision(BaseModel):
    """Calibration and share of each kind of member, and the rule with its setting, fitted on validation rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    setting: float | list[float] | None
    kinds: dict[str, KindDecision]

    def calibrated(self, kind: str, logits: torch.Tensor) -> torch.Tensor:
        """Return the calibrated probabilities of a member of this kind, of the same shape."""
        return Calibration(self.kinds[kind].slope, self.kinds[kind].intercept).apply(logits)

    def probs(self, logits: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean, by share, of the kinds' calibrated probabilities."""
        parts = [self.kinds[kind].share * self.calibrated(kind, values) for kind, values in logits.items()]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    def lists(self, probs: np.ndarray | torch.Tensor) -> Lists:
        """Return the species list of each row of calibrated probabilities."""
        setting = np.asarray(self.setting) if isinstance(self.setting, list) else self.setting
        return pick(RULES, self.rule, what="rule")(probs, setting)


def fit_decision(logits: dict[str, torch.Tensor], truth: Lists, config: DecideConfig) -> Decision:
    """Return the calibrations, the shares and the rule's setting that suit validation rows best.

    Each kind of member is calibrated on its own before the kinds are averaged; the share of the first of two kinds is
    the one of 0, .1, ... 1 with the highest likelihood.

    Parameters
    ----------
    logits
        By kind of member, (N, S) logits of validation rows, each by members that were not trained on it. One or two
        kinds.
    truth
        Their observed sets.
    config
        The rule, and whether to calibrate.

    Examples
    --------
    >>> logits = torch.tensor([[3.0, -2.0, -1.0], [2.0, -3.0, 1.0]])
    >>> truth = Lists.from_rows([[0], [0, 2]])
    >>> decision = fit_decision({"network": logits}, truth, DecideConfig(rule="top_k", calibrate=False))
    >>> decision.setting, decision.lists(decision.probs({"network": logits})).row(1).tolist()
    (1.0, [0])
    """
    assert 1 <= len(logits) <= 2
    kinds = {}
    for kind, values in logits.items():
        calibration = fit_calibration(values, truth) if config.calibrate else Calibration()
        kinds[kind] = KindDecision(slope=calibration.slope, intercept=calibration.intercept)
    decision = Decision(rule=config.rule, setting=None, kinds=kinds)
    if len(kinds) == 2:
        decision = decision.model_copy(update={"kinds": _share(decision, logits, truth)})
    fit: Any = FITS[config.rule]
    setting = fit(decision.probs(logits), truth)
    if isinstance(setting, np.ndarray):
        setting = setting.tolist()
    elif setting is not None:
        setting = float(setting)
    return decision.model_copy(update={"setting": setting})


def _share(decision: Decision, logits: dict[str, torch.Tensor], truth: Lists) -> dict[str, KindDecision]:
    """Return the two kinds with the shares of the likeliest mixture."""
    (first, a), (second, b) = ((kind, decision.calibrated(kind, values)) for kind, values in logits.items())
    rows, species = torch.from_numpy(truth.surveys()), torch.from_numpy(truth.indices).long()
    known = species < a.shape[1]
    rows, species = rows[known], species[known]

    def log_likelihood(share: float) -> float:
        mixed = torch.lerp(b, a, share).clamp(1e-12, 1 - 1e-7)
        absent = torch.log1p(-mixed)
        hits = mixed[rows, species].log() - absent[rows, species]
        return float(absent.sum(dtype=torch.float64) + hits.sum(dtype=torch.float64))

    best = max(SHARES, key=log_likelihood)
    kinds = decision.kinds
    return {
        first: kinds[first].model_copy(update={"share": best}),
        second: kinds[second].model_copy(update={"share": round(1 - best, 1)}),
    }
