"""From probabilities to species lists: rules, their fitted settings, and calibration."""

from releve.decide.calibration import Calibration, fit_calibration, reliability_table, to_logits
from releve.decide.conformal import (
    false_risk_threshold,
    miss_rate_thresholds,
    miss_risk_threshold,
    row_threshold_sets,
)
from releve.decide.coverage import coverage_table
from releve.decide.expected_f1 import expected_f1_sets, expected_f1_value
from releve.decide.macro import expected_f1_macro_sets, fit_macro
from releve.decide.methods import CALIBRATIONS
from releve.decide.pool import draw_out
from releve.decide.rules import (
    FITS,
    RULES,
    RuleOptions,
    fit_species_thresholds,
    fit_threshold,
    fit_top_k,
    threshold_sets,
    top_k_sets,
)
from releve.decide.shift import ShiftWeights, shift_weights
from releve.decide.weights import fit_weights
from releve.metrics import Lists

__all__ = [
    "CALIBRATIONS",
    "FITS",
    "RULES",
    "Calibration",
    "Lists",
    "RuleOptions",
    "ShiftWeights",
    "coverage_table",
    "draw_out",
    "expected_f1_macro_sets",
    "expected_f1_sets",
    "expected_f1_value",
    "false_risk_threshold",
    "fit_calibration",
    "fit_macro",
    "fit_species_thresholds",
    "fit_threshold",
    "fit_top_k",
    "fit_weights",
    "miss_rate_thresholds",
    "miss_risk_threshold",
    "reliability_table",
    "row_threshold_sets",
    "shift_weights",
    "threshold_sets",
    "to_logits",
    "top_k_sets",
]
