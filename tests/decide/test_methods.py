"""Isotonic and per-class calibrations against scikit-learn, by hand, and as invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from releve.decide.calibration import fit_calibration, reliability_table
from releve.decide.expected_f1 import expected_f1_sets
from releve.decide.methods import CALIBRATIONS, ClassCalibration, MonotoneCalibration, fit_by_class, fit_isotonic
from releve.errors import TableError
from releve.lists import Lists


def world(bend=lambda z: z, num_surveys=1500, num_species=60, seed=0):
    """Logits, and sets drawn with the probability of the bent logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.5, 2, (num_surveys, num_species))
    rows, species = np.nonzero(rng.random(logits.shape) < 1 / (1 + np.exp(-bend(logits))))
    return logits, Lists.from_pairs(rows, species, num_surveys)


def test_pools_are_those_of_scikit_learn_at_their_mean_logits(monkeypatch):
    monkeypatch.setattr("releve.decide.methods.PSEUDO_CELLS", 0.0)
    logits, truth = world(lambda z: 0.5 * z, num_surveys=200)
    logits = np.round(logits, 1) + 0.005  # one value a bin
    values, present = logits.ravel(), truth.to_csr(60).toarray().ravel()
    reference = IsotonicRegression().fit_transform(values, present)
    fitted = fit_isotonic(logits, truth)
    shares = np.unique(reference)
    centres = [values[reference == share].mean() for share in shares]
    np.testing.assert_allclose(fitted.logits, centres, atol=1e-9)
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(fitted.calibrated))), shares.clip(1e-12, 1 - 1e-12))


def test_isotonic_finds_a_bend_that_a_straight_line_cannot():
    logits, truth = world(lambda z: np.where(z > -2, 0.3 * z, 2 * z + 3.4), num_surveys=6000)
    errors = {}
    for name in ("platt", "isotonic"):
        table = reliability_table(CALIBRATIONS[name](logits, truth, None).apply(logits), truth)
        table = table.filter(table["num_cells"] >= 2000)
        errors[name] = float((table["mean_prob"] - table["observed_share"]).abs().max())
    assert errors["isotonic"] < 0.01 < 0.03 < errors["platt"]


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_probabilities_rise_with_the_score_stay_off_0_and_1_and_serve_the_list_rule(method):
    logits, truth = world()
    calibration = CALIBRATIONS[method](logits, truth, None)
    column = np.repeat(np.linspace(-20, 8, 400)[:, None], 60, axis=1)
    probs = calibration.apply(column)
    assert (np.diff(probs, axis=0) > 0).all()
    assert 0 < probs.min() < probs.max() < 1
    lists = expected_f1_sets(calibration.apply(torch.from_numpy(logits[:50]).float()))
    assert lists.lengths().min() >= 1


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_tensors_and_arrays_of_either_precision_give_the_same(method):
    logits, truth = world(num_surveys=200)
    calibration = CALIBRATIONS[method](logits, truth, None)
    exact = calibration.apply(logits)
    assert exact.dtype == np.float64
    assert calibration.apply(logits.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(calibration.apply(torch.from_numpy(logits)).numpy(), exact)
    np.testing.assert_allclose(calibration.apply(logits.astype(np.float32)), exact, atol=1e-5)
    assert calibration.summary()


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_blocks_of_rows_do_not_change_a_calibration(method, monkeypatch):
    logits, truth = world(num_surveys=150)
    before = CALIBRATIONS[method](logits, truth, None).apply(logits)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 333)
    np.testing.assert_allclose(CALIBRATIONS[method](logits, truth, None).apply(logits), before, rtol=1e-9)


@pytest.mark.parametrize("method", set(CALIBRATIONS) - {"none"})
def test_constant_scores_become_the_share_of_presences(method):
    """30 of 100 cells, whatever the score says; a temperature cannot mend a score of 3 further than a half."""
    truth = Lists.from_rows([[0, 1, 2]] * 10)
    probs = CALIBRATIONS[method](np.full((10, 10), 3.0), truth, None).apply(np.full((1, 10), 3.0))
    if method == "frequency_class":  # 3 of 10 species in the one class: all have 10 presences or fewer
        assert np.ptp(probs) == 0
    slope_of_share = np.log(0.3 / 0.7) / 3
    expected = 1 / (1 + np.exp(-3 * slope_of_share))
    assert probs[0, 0] == pytest.approx(expected, abs=0.01)


def test_a_line_through_one_knot_has_its_slope():
    one = MonotoneCalibration(logits=(1.0,), calibrated=(0.0,), slope=2.0)
    np.testing.assert_allclose(one.apply(np.array([0.0, 1.0, 2.0])), 1 / (1 + np.exp([2.0, 0.0, -2.0])))


def test_a_class_with_many_presences_gets_its_own_logistic_regression():
    """Columns 0 to 19 are common and right, columns 20 to 59 rarer and twice too steep."""
    rng = np.random.default_rng(3)
    true = rng.normal(-2, 1.5, (4000, 60))
    true[:, 20:] -= 2
    truth = Lists.from_pairs(*np.nonzero(rng.random(true.shape) < 1 / (1 + np.exp(-true))), 4000)
    logits = true.copy()
    logits[:, 20:] *= 2
    counts = np.array([900] * 20 + [200] * 40)
    fitted = fit_by_class(logits, truth, counts)
    assert fitted.classes == (4,) * 20 + (3,) * 40
    dense = truth.to_csr(60).toarray()
    for k, columns in ((4, slice(0, 20)), (3, slice(20, 60))):
        model = LogisticRegression(C=np.inf).fit(logits[:, columns].reshape(-1, 1), dense[:, columns].ravel())
        assert fitted.slopes[k] == pytest.approx(model.coef_[0, 0], abs=0.02)
        assert fitted.intercepts[k] == pytest.approx(model.intercept_[0], abs=0.05)
    pooled = fit_calibration(logits, truth)
    assert fitted.slopes[0] == pytest.approx(pooled.slope, abs=1e-6)  # a class without species
    assert fitted.intercepts[0] == pytest.approx(pooled.intercept, abs=1e-6)


def test_a_class_with_few_presences_stays_near_the_fit_to_all(monkeypatch):
    logits, truth = world(num_surveys=1000)
    counts = np.array([5] + [900] * 59)
    keep = np.flatnonzero(truth.indices != 0)
    few = Lists.from_pairs(truth.surveys()[keep], truth.indices[keep], 1000)  # the first species is never there
    pooled, near = fit_calibration(logits, few), fit_by_class(logits, few, counts)
    monkeypatch.setattr("releve.decide.methods.CLASS_PRIOR", 1e-3)
    alone = fit_by_class(logits, few, counts)
    assert alone.intercepts[0] < near.intercepts[0] < pooled.intercept
    assert near.intercepts[0] > pooled.intercept - 3


def test_counts_must_match_the_species():
    with pytest.raises(TableError, match=r"counts of shape \(2,\).*3 species"):
        fit_by_class(np.zeros((1, 3)), Lists.from_rows([[0]]), np.array([1, 2]))


@pytest.mark.parametrize("method", set(CALIBRATIONS) - {"none"})
def test_bad_logits_and_an_empty_calibration_role_are_refused(method):
    fit = CALIBRATIONS[method]
    with pytest.raises(TableError, match="1 logits are NaN"):
        fit(np.array([[np.nan, 0.0]]), Lists.from_rows([[0]]), None)
    with pytest.raises(TableError, match="0 rows of logits"):
        fit(np.zeros((0, 3)), Lists.from_rows([]), None)
    with pytest.raises(TableError, match="no observed species"):
        fit(np.zeros((2, 3)), Lists.from_rows([[], []]), None)


def test_a_class_calibration_needs_its_species_in_the_last_dimension():
    two = ClassCalibration(slopes=(1.0, 2.0), intercepts=(0.0, -1.0), classes=(0, 1))
    np.testing.assert_allclose(two.apply(np.ones((2, 3, 2)))[1, 2], 1 / (1 + np.exp([-1.0, -1.0])))
