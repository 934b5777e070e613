"""Weights of kinds against brute force and scipy's optimiser, and what they are where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch

from releve.decide.calibration import Calibration
from releve.decide.weights import fit_weights
from releve.lists import Lists

PLAIN = Calibration()


def world(num_kinds, num_surveys=300, num_species=40):
    """Truth drawn from logits, and kinds that see them under more and more noise."""
    rng = np.random.default_rng(num_kinds)
    known = rng.normal(-3, 2, (num_surveys, num_species))
    truth = Lists.from_pairs(*np.nonzero(rng.random(known.shape) < 1 / (1 + np.exp(-known))), num_surveys)
    return [known + rng.normal(0, 1 + k / 2, known.shape) for k in range(num_kinds)], truth


def dense_loss(logits, truth):
    probs_KNS = 1 / (1 + np.exp(-np.stack(logits)))
    observed_NS = truth.to_csr(logits[0].shape[1]).toarray() > 0

    def loss(weights_K):
        mixed_NS = np.tensordot(weights_K, probs_KNS, 1)
        return -np.where(observed_NS, np.log(mixed_NS), np.log1p(-mixed_NS)).sum()

    return loss


def likeliest(fitted, num_surveys):
    """Undo the pull to equal weights."""
    num_equal = 50 * (len(fitted) - 1)
    return ((num_surveys + num_equal) * fitted - num_equal / len(fitted)) / num_surveys


@pytest.mark.parametrize("num_kinds", [2, 3, 6])
def test_before_the_pull_they_are_the_likeliest_on_the_simplex(num_kinds):
    logits, truth = world(num_kinds)
    loss = dense_loss(logits, truth)
    reference = scipy.optimize.minimize(
        loss,
        np.full(num_kinds, 1 / num_kinds),
        method="SLSQP",
        bounds=[(0, 1)] * num_kinds,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    found = likeliest(fit_weights(logits, [PLAIN] * num_kinds, truth), 300)
    assert loss(found) <= reference.fun + 1e-3
    np.testing.assert_allclose(found, reference.x, atol=2e-3)
    assert found.min() >= -1e-12
    assert found.sum() == pytest.approx(1)


def test_two_kinds_have_the_best_share_of_a_fine_grid():
    logits, truth = world(2)
    loss = dense_loss(logits, truth)
    tried = np.linspace(0, 1, 2001)
    best = tried[np.argmin([loss(np.array([share, 1 - share])) for share in tried])]
    assert likeliest(fit_weights(logits, [PLAIN] * 2, truth), 300)[0] == pytest.approx(best, abs=1e-3)


def test_equal_weights_count_for_fifty_surveys_a_free_weight():
    """With 100 surveys and three kinds of which one is perfect, half of the weight is equal: 4/6, 1/6, 1/6."""
    sure = np.array([[20.0, -20.0, 20.0]] * 100)
    truth = Lists.from_rows([[0, 2]] * 100)
    np.testing.assert_allclose(fit_weights([0 * sure, sure, 0 * sure], [PLAIN] * 3, truth), [1 / 6, 4 / 6, 1 / 6])


def test_kinds_that_say_the_same_and_constant_scores_share_equally():
    logits, truth = world(1)
    np.testing.assert_allclose(fit_weights(logits * 4, [PLAIN] * 4, truth), 0.25, atol=1e-6)
    constant = [np.full((300, 40), -2.0)] * 2
    np.testing.assert_allclose(fit_weights(constant, [PLAIN] * 2, truth), 0.5)
    assert fit_weights(logits, [PLAIN], truth).tolist() == [1.0]


def test_the_order_of_kinds_and_the_size_of_blocks_do_not_matter(monkeypatch):
    logits, truth = world(3)
    fitted = fit_weights(logits, [PLAIN] * 3, truth)
    np.testing.assert_allclose(fit_weights(logits[::-1], [PLAIN] * 3, truth)[::-1], fitted, atol=1e-5)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 700)
    tensors = [torch.from_numpy(values).float() for values in logits]
    np.testing.assert_allclose(fit_weights(tensors, [PLAIN] * 3, truth), fitted, atol=1e-4)


def test_each_kind_is_weighted_after_its_own_calibration():
    logits, truth = world(2)
    distorted = [logits[0], 3 * logits[1] - 1]
    undone = [PLAIN, Calibration(1 / 3, 1 / 3)]
    expected = fit_weights(logits, [PLAIN] * 2, truth)
    np.testing.assert_allclose(fit_weights(distorted, undone, truth), expected, atol=1e-5)


def test_a_sample_of_surveys_is_the_same_for_the_same_seed_and_near_the_whole(monkeypatch):
    logits, truth = world(2)
    whole = fit_weights(logits, [PLAIN] * 2, truth)
    monkeypatch.setattr("releve.decide.weights.SAMPLE_SURVEYS", 200)
    part = fit_weights(logits, [PLAIN] * 2, truth)
    assert part.tolist() == fit_weights(logits, [PLAIN] * 2, truth).tolist()
    assert part.tolist() != fit_weights(logits, [PLAIN] * 2, truth, seed=1).tolist()
    np.testing.assert_allclose(part, whole, atol=0.1)


def test_infinite_logits_keep_the_weights_finite():
    logits = [np.array([[np.inf, -np.inf], [-np.inf, np.inf]]), np.zeros((2, 2))]
    fitted = fit_weights(logits, [PLAIN] * 2, Lists.from_rows([[1], [0]]))  # the first is wrong everywhere
    np.testing.assert_allclose(fitted, [25 / 52, 27 / 52])
