"""Ratios of densities against known ones, and how many surveys they leave."""

from __future__ import annotations

import numpy as np
import pytest

from releve.decide.shift import shift_weights
from releve.errors import TableError


def test_the_ratio_of_two_normal_densities_is_found():
    """N(1, 1) over N(0, 1) is exp(x - 1/2)."""
    rng = np.random.default_rng(0)
    here, there = rng.normal(0, 1, (3000, 1)), rng.normal(1, 1, (1500, 1))
    found = shift_weights(here, there)
    true = np.exp(here[:, 0] - 0.5)
    assert np.corrcoef(np.log(found.calibration_N), np.log(true))[0, 1] > 0.99
    assert abs((found.calibration_N * here[:, 0]).mean() - 1) < 0.1  # the weighted mean is the target's
    assert found.calibration_N.mean() == pytest.approx(1)
    assert found.effective_size == pytest.approx(3000 / np.exp(1), rel=0.15)  # E[w^2] = e
    assert found.auc == pytest.approx(0.76, abs=0.02)


def test_places_that_do_not_differ_weigh_the_same_whatever_their_numbers():
    rng = np.random.default_rng(1)
    found = shift_weights(rng.normal(size=(400, 3)), rng.normal(size=(100, 3)))
    assert found.effective_size > 380
    assert abs(found.auc - 0.5) < 0.1


def test_missing_values_constant_features_and_seeds():
    rng = np.random.default_rng(2)
    here, there = rng.normal(0, 1, (300, 3)), rng.normal(0.5, 1, (300, 3))
    for table in (here, there):
        table[:, 1] = 7.0
        table[:, 2] = np.nan
        table[::5, 0] = np.nan
    found = shift_weights(here, there)
    assert np.isfinite(found.calibration_N).all()
    assert np.isfinite(found.target_M).all()
    assert found.calibration_N.tolist() == shift_weights(here, there).calibration_N.tolist()


def test_worlds_apart_leave_hardly_any_survey_and_ratios_are_cut():
    rng = np.random.default_rng(3)
    here = np.r_[rng.normal(0, 1, 500), 10.0][:, None]
    found = shift_weights(here, rng.normal(10, 1, (500, 1)))
    assert found.auc > 0.98
    assert found.effective_size < 20
    assert (found.target_M == found.target_M.max()).mean() > 0.9  # all of 20 and more


@pytest.mark.parametrize("here, there", [((5, 2), (50, 2)), ((50, 2), (5, 2)), ((50, 2), (50, 3)), ((50,), (50,))])
def test_tables_that_are_too_short_or_do_not_match_are_refused(here, there):
    with pytest.raises(TableError, match="at least 10 surveys, and the same features"):
        shift_weights(np.zeros(here), np.zeros(there))
