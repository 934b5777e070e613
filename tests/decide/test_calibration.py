"""Known distortions are recovered, and the binned fit equals an unbinned one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from releve.decide.calibration import Calibration, fit_calibration, to_logits
from releve.errors import TableError
from releve.lists import Lists


def distorted(slope, intercept, num_surveys=2000, num_species=200):
    """Logits whose calibrated value is ``slope * logit + intercept``, and sets drawn from it."""
    rng = np.random.default_rng(0)
    true_logits = rng.normal(-3, 2, size=(num_surveys, num_species))
    rows, species = np.nonzero(rng.random(true_logits.shape) < 1 / (1 + np.exp(-true_logits)))
    return (true_logits - intercept) / slope, Lists.from_pairs(rows, species, num_surveys)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (1.9, -0.5), (0.4, 2.0)])
def test_a_known_distortion_is_recovered_and_leaves_slope_one(slope, intercept):
    logits, truth = distorted(slope, intercept)
    fitted = fit_calibration(logits, truth)
    assert (fitted.slope, fitted.intercept) == pytest.approx((slope, intercept), abs=0.03)
    again = fit_calibration(to_logits(fitted.apply(logits)), truth)
    assert (again.slope, again.intercept) == pytest.approx((1, 0), abs=2e-4)


def test_the_binned_fit_equals_unbinned_logistic_regression():
    logits, truth = distorted(1.5, -1.0, num_surveys=300, num_species=50)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(logits.reshape(-1, 1), truth.to_csr(50).toarray().reshape(-1))
    fitted = fit_calibration(logits, truth)
    assert fitted.slope == pytest.approx(model.coef_[0, 0], abs=2e-4)
    assert fitted.intercept == pytest.approx(float(np.ravel(model.intercept_)[0]), abs=2e-4)


def test_float32_tensors_and_blocks_of_rows_give_the_same_fit(monkeypatch):
    logits, truth = distorted(1.5, -1.0, num_surveys=300, num_species=50)
    fitted = fit_calibration(logits, truth)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 700)
    again = fit_calibration(torch.from_numpy(logits).float(), truth)
    assert (again.slope, again.intercept) == pytest.approx((fitted.slope, fitted.intercept), abs=1e-4)


def test_separable_and_extreme_logits_stay_finite():
    logits = np.array([[np.inf, -np.inf, 50.0], [-40.0, 30.0, -1.0]])
    fitted = fit_calibration(logits, Lists.from_rows([[0, 2], [1]]))
    assert np.isfinite([fitted.slope, fitted.intercept]).all()
    assert fitted.slope > 0
    assert np.isfinite(fit_calibration(np.zeros((2, 3)), Lists.from_rows([[0, 1, 2]] * 2)).intercept)


def test_observed_species_without_a_column_have_no_cell():
    logits, truth = distorted(1.0, 0.0, num_surveys=50, num_species=30)
    more = Lists.from_rows([[*truth.row(i), 99] for i in range(50)])
    assert fit_calibration(logits, more) == fit_calibration(logits, truth)


def test_apply_keeps_kind_shape_and_precision():
    calibration = Calibration(2.0, -1.0)
    expected = 1 / (1 + np.exp(-(2 * np.array([[0.0, 1.0]]) - 1)))
    np.testing.assert_allclose(calibration.apply(np.array([[0.0, 1.0]])), expected)
    assert calibration.apply(np.zeros((3, 2), dtype=np.float32)).dtype == np.float32
    assert calibration.apply(np.array(0.5)) == 0.5
    tensor = calibration.apply(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    np.testing.assert_allclose(tensor.numpy(), expected)
    assert calibration.apply(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]


def test_logits_of_probabilities_invert_the_sigmoid():
    logits = torch.linspace(-8, 8, 9, dtype=torch.float64)
    torch.testing.assert_close(to_logits(torch.sigmoid(logits)), logits)
    assert to_logits(np.array([0.0, 0.5, 1.0], dtype=np.float32)).dtype == np.float32


def test_bad_input_is_refused():
    truth = Lists.from_rows([[0]])
    with pytest.raises(TableError, match="1 logits are NaN"):
        fit_calibration(np.array([[np.nan, 0.0]]), truth)
    with pytest.raises(TableError, match="2 rows of scores for 1"):
        fit_calibration(np.zeros((2, 3)), truth)
    with pytest.raises(TableError, match="no observed species has a column"):
        fit_calibration(np.zeros((1, 3)), Lists.from_rows([[7]]))
