"""How probabilities become species lists."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DecideConfig(BaseModel):
    """How probabilities become species lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["expected_f1", "top_k", "threshold", "species_threshold", "conformal"] = "expected_f1"
    """``expected_f1`` gives each survey the list with the highest expected F1; ``top_k``, ``threshold`` and
    ``species_threshold`` have the length or thresholds with the best sF1; the lists of ``conformal`` miss at most
    1 - ``coverage`` of the observed species on average."""
    calibration: Literal["platt", "none"] = "platt"
    """``platt`` corrects each kind's logits by a slope and an intercept that are fitted on held-out rows. Of several
    kinds, the mean is calibrated too."""
    join: Literal["probabilities", "logits"] = "probabilities"
    """How kinds of member are joined. ``probabilities``: the likeliest mixture, by shares that are fitted; ``logits``:
    all alike by their calibrated logits, which suits records alone, on which shares cannot be told."""
    coverage: float = Field(0.9, gt=0, lt=1)
    """The share of the observed species that the rule ``conformal`` promises."""


RULES_IN_WORDS = {
    "expected_f1": "the list with the highest expected F1 under the calibrated probabilities, found exactly "
    "(Ye et al. 2012; Dembczynski et al. 2013)",
    "top_k": "the same number of most probable species for every plot",
    "threshold": "every species above one threshold",
    "species_threshold": "every species above a threshold of its own",
    "conformal": "a conformal list, meant to hold {coverage:.0%} of the recorded species on average",
}
"""What a report says of each rule; the settings of the section are filled in."""
