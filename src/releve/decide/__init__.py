"""From probabilities to species lists: rules, their fitted settings, and calibration."""

from releve.decide.calibration import Calibration, fit_calibration, reliability_table, to_logits
from releve.decide.expected_f1 import expected_f1_sets, expected_f1_value
from releve.decide.methods import CALIBRATIONS
from releve.decide.rules import (
    FITS,
    RULES,
    fit_species_thresholds,
    fit_threshold,
    fit_top_k,
    threshold_sets,
    top_k_sets,
)
from releve.decide.weights import fit_weights
from releve.metrics import Lists

__all__ = [
    "CALIBRATIONS",
    "FITS",
    "RULES",
    "Calibration",
    "Lists",
    "expected_f1_sets",
    "expected_f1_value",
    "fit_calibration",
    "fit_species_thresholds",
    "fit_threshold",
    "fit_top_k",
    "fit_weights",
    "reliability_table",
    "threshold_sets",
    "to_logits",
    "top_k_sets",
]
