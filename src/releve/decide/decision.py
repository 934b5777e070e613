"""What a run has learned about turning its logits into lists: calibration, shares of the kinds of member, rule."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.config import DecideConfig
from releve.decide.pool import draw_out
from releve.decide.richness import Widening, fit_widening
from releve.decide.rules import FITS, RULES
from releve.decide.stretch import FoldStretch
from releve.decide.weights import fit_weights
from releve.errors import TableError, pick
from releve.lists import Lists


class KindDecision(BaseModel):
    """One kind of member: its calibration, and its share in the mean of probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration: Calibration
    share: float = 1.0
    stretch: FoldStretch = FoldStretch()
    """Of the mean over folds, which is what is predicted of new places."""


class Decision(BaseModel):
    """Calibration and share of each kind of member, and the rule with its setting, fitted on held-out rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    setting: float | list[float] | None
    kinds: dict[str, KindDecision]
    widening: Widening = Widening()
    """Of the interval of the number of species."""
    join: Literal["probabilities", "logits"] = "probabilities"
    """How the kinds are joined."""

    def calibrated(self, kind: str, logits: torch.Tensor) -> torch.Tensor:
        """Return the calibrated probabilities of a member of this kind, of the same shape."""
        return self.kinds[kind].calibration.apply(logits)

    def probs(self, logits: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean, by share, of the kinds' calibrated probabilities, or of their logits."""
        if self.join == "logits":
            return torch.sigmoid(reduce(torch.add, (self._line(kind, values) for kind, values in logits.items())))
        parts = [self.kinds[kind].share * self.calibrated(kind, values) for kind, values in logits.items()]
        return torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]

    def _line(self, kind: str, logits: torch.Tensor) -> torch.Tensor:
        """Return the calibrated logits of a kind, times its share."""
        line = self.kinds[kind].calibration
        return self.kinds[kind].share * (line.slope * logits + line.intercept)

    def stretched(self, stretches: dict[str, FoldStretch]) -> Decision:
        """Return the decision with these stretches of the kinds' means over folds."""
        changed = {kind: self.kinds[kind].model_copy(update={"stretch": stretches[kind]}) for kind in stretches}
        return self.model_copy(update={"kinds": self.kinds | changed})

    def lists(self, probs: np.ndarray | torch.Tensor) -> Lists:
        """Return the species list of each row of calibrated probabilities."""
        setting = np.asarray(self.setting) if isinstance(self.setting, list) else self.setting
        return pick(RULES, self.rule, what="rule")(probs, setting)


def fit_decision(logits: dict[str, torch.Tensor], truth: Lists, config: DecideConfig) -> Decision:
    """Return the calibrations, the shares and the rule's setting that suit held-out rows best.

    Each kind of member is calibrated on its own before the kinds are averaged, by the weights of
    :func:`releve.decide.weights.fit_weights`; then :func:`releve.decide.pool.draw_out` makes their mean calibrated.

    Parameters
    ----------
    logits
        By kind of member, (N, S) logits of held-out rows, each by members that were not trained on it.
    truth
        Their observed sets.
    config
        The calibration and the rule.

    Raises
    ------
    TableError
        If there are no held-out rows, not as many logits as observed sets, or a logit is NaN.

    Examples
    --------
    >>> logits = torch.tensor([[3.0, -2.0, -1.0], [2.0, -3.0, 1.0]])
    >>> truth = Lists.from_rows([[0], [0, 2]])
    >>> decision = fit_decision({"network": logits}, truth, DecideConfig(rule="top_k", calibration="none"))
    >>> decision.setting, decision.lists(decision.probs({"network": logits})).row(1).tolist()
    (1.0, [0])
    """
    _check_rows(logits, truth)
    fitted = config.calibration == "platt"
    calibrations = [fit_calibration(values, truth) if fitted else Calibration() for values in logits.values()]
    if config.join == "logits":
        calibrations, shares = join_logits(list(logits.values()), calibrations, truth, fitted=fitted)
    else:
        shares = fit_weights(list(logits.values()), calibrations, truth).tolist()
        if fitted:
            calibrations = draw_out(list(logits.values()), calibrations, shares, truth)
    kinds = {
        kind: KindDecision(calibration=calibration, share=share)
        for kind, calibration, share in zip(logits, calibrations, shares, strict=True)
    }
    decision = Decision(rule=config.rule, setting=None, kinds=kinds, join=config.join)
    probs = decision.probs(logits)
    setting = FITS[config.rule](probs, truth, config.coverage)
    written = setting.tolist() if isinstance(setting, np.ndarray) else setting if setting is None else float(setting)
    return decision.model_copy(update={"setting": written, "widening": fit_widening(probs, truth)})


def join_logits(
    logits: list[torch.Tensor], calibrations: list[Calibration], truth: Lists, *, fitted: bool
) -> tuple[list[Calibration], list[float]]:
    """Return the calibrations of kinds that count alike, drawn out so that the mean of their logits is calibrated.

    A kind that tells presences from silence the wrong way round, its slope being 0 or less, counts nothing.
    """
    used = [line.slope > 0 for line in calibrations]
    used = used if any(used) else [True] * len(used)
    shares = [float(each) / sum(used) for each in used]
    if not fitted:
        return calibrations, shares
    lines = zip(logits, calibrations, shares, strict=True)
    mean = reduce(torch.add, (share * (line.slope * values + line.intercept) for values, line, share in lines))
    drawn = fit_calibration(mean, truth)
    return [line.then(drawn.slope, drawn.intercept) for line in calibrations], shares


def _check_rows(logits: dict[str, torch.Tensor], truth: Lists) -> None:
    num_rows = {kind: len(values) for kind, values in logits.items()}
    if not truth.num_surveys or set(num_rows.values()) != {truth.num_surveys}:
        raise TableError(
            f"calibration and list rule have {truth.num_surveys} observed sets and logits of {num_rows} rows to be "
            "fitted on",
            expected="as many of each, and one or more",
            action="Hold out a fold that has plots: see split.num_folds and train.num_folds",
        )
    for kind, values in logits.items():
        if num_nan := int(values.isnan().sum()):
            raise TableError(
                f"{num_nan} logits of {kind} are NaN",
                expected="numbers",
                action="Look for a training that diverged, and lower train.learning_rate",
            )
