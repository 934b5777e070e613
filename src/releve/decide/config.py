"""How probabilities become species lists."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DecideConfig(BaseModel):
    """How probabilities become species lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal[
        "expected_f1",
        "expected_f1_macro",
        "top_k",
        "threshold",
        "species_threshold",
        "conformal",
        "miss_risk",
        "false_risk",
    ] = "expected_f1"
    """``expected_f1`` gives each survey the list with the highest expected F1, ``expected_f1_macro`` adds rare species
    by ``macro_weight``; ``top_k``, ``threshold`` and ``species_threshold`` have the length or thresholds with the best
    sF1; ``conformal`` and ``miss_risk`` miss at most 1 - ``coverage`` of the observed species, on average or for 9 of
    10 calibration sets; of the lists of ``false_risk``, at most 1 - ``coverage`` is not there, for 9 of 10."""
    calibration: Literal["platt", "temperature", "isotonic", "frequency_class", "none"] = "platt"
    """How each kind's logits are corrected on validation rows first: a slope and an intercept, a slope alone, any
    rising line, or a slope and an intercept for each class of species by frequency. Of several kinds, the mean is
    calibrated too."""

    coverage: float = Field(0.9, gt=0, lt=1)
    """The share that the rules ``conformal``, ``miss_risk`` and ``false_risk`` promise."""
    macro_weight: float = Field(0.05, ge=0, allow_inf_nan=False)
    """What macro F1 counts for in the rule ``expected_f1_macro``, sF1 being 1."""
