"""Hinge regression: its features by hand, its fit against scikit-learn, and species of which nothing is known."""

# N rows, K features

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from recorded import look_at, make_places
from releve.models.background import Background
from releve.models.hinge import KNOTS, PENALTY, HingeFeatures, compared_with, fit_hinge, fit_logistic


def test_a_number_is_its_rank_then_its_square_then_its_hinges_then_categories() -> None:
    store = make_places(200, 0)
    gatherer, statistics = look_at(store, ("covariates",))
    features_NK = HingeFeatures(statistics).of(gatherer.batch(np.arange(200)))
    assert features_NK.shape == (200, 2 + len(KNOTS) + 2)
    wet_N = store.arrays["covariates"].gather(np.arange(200))[:, 0]
    low, middle, high = np.argsort(wet_N)[[0, 100, 199]].tolist()
    assert features_NK[low, 0] < -0.97 and abs(float(features_NK[middle, 0])) < 0.02 and features_NK[high, 0] > 0.97
    torch.testing.assert_close(features_NK[:, 1], features_NK[:, 0] ** 2)
    torch.testing.assert_close(features_NK[:, 2], (features_NK[:, 0] + 0.8).clamp(min=0))
    assert features_NK[:4, -2:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_the_fit_is_that_of_penalised_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x_NK = rng.standard_normal((300, 5)).astype(np.float32)
    x_NK[:60] += [1, 0, 0, -0.5, 0]
    weight_N = np.where(np.arange(300) < 60, 1.0, 0.25).astype(np.float32)
    theirs = LogisticRegression(C=1 / PENALTY, tol=1e-8, max_iter=1000)
    theirs.fit(x_NK, np.arange(300) < 60, sample_weight=weight_N)
    coefficients, intercept = fit_logistic(torch.from_numpy(x_NK), 60, torch.from_numpy(weight_N))
    np.testing.assert_allclose(coefficients, theirs.coef_[0], atol=2e-4)
    assert intercept == pytest.approx(theirs.intercept_[0], abs=2e-4)


@pytest.mark.parametrize("num_present", [0, 4])
def test_without_presences_or_without_others_nothing_is_learned(num_present: int) -> None:
    coefficients, intercept = fit_logistic(torch.ones(4, 2), num_present, torch.ones(4))
    assert coefficients.tolist() == [0, 0] and intercept == 0


def test_presences_weigh_as_much_as_what_they_are_compared_with() -> None:
    known = Background(np.arange(20_000), np.arange(20_000, 30_000), random_share=0.2)
    rows, weights = compared_with(np.arange(50), known, np.random.default_rng(0))
    assert rows[:50].tolist() == list(range(50)) and not np.isin(rows[50:], np.arange(50)).any()
    assert len(rows) == 50 + 3000 + 3000
    sums = [weights[:50].sum(), weights[50:3050].sum(), weights[3050:].sum()]
    np.testing.assert_allclose(sums, [50, 40, 10], rtol=1e-4)


def test_each_species_is_found_where_it_grows_and_has_its_share_of_the_places() -> None:
    store = make_places(300, 0, num_species=4)
    gatherer, statistics = look_at(store, ("covariates", "location"))
    logits_NS = fit_hinge(gatherer, np.arange(300), statistics, seed=0)(gatherer.batch(np.arange(300)))
    wet_N = torch.from_numpy(store.arrays["covariates"].gather(np.arange(300))[:, 0])
    assert logits_NS[wet_N > 0.5, 0].min() > logits_NS[wet_N < -0.5, 0].max()
    assert logits_NS[wet_N < -0.5, 1].min() > logits_NS[wet_N > 0.5, 1].max()
    share_S = torch.sigmoid(logits_NS).mean(dim=0)
    observed_S = torch.tensor(statistics.num_positives) / 300
    torch.testing.assert_close(share_S, observed_S, atol=0.06, rtol=0)
