"""The mean of calibrated kinds is timid; drawn out, it is calibrated, on rows that it was not fitted on too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from releve.decide.calibration import Calibration, fit_calibration, to_logits
from releve.decide.config import DecideConfig
from releve.decide.decision import fit_decision
from releve.decide.pool import draw_out
from releve.decide.weights import fit_weights
from releve.lists import Lists


def world(seed: int, num_surveys: int = 1500, num_species: int = 60) -> tuple[list[torch.Tensor], Lists]:
    """Return two kinds of logits, each the truth under noise of its own, the second too steep; and sets of species."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2.5, 2, (num_surveys, num_species))
    truth = Lists.from_pairs(*np.nonzero(rng.random(true.shape) < 1 / (1 + np.exp(-true))), num_surveys)
    kinds = [true + rng.normal(0, 1.2, true.shape), 1.6 * (true + rng.normal(0, 1.5, true.shape))]
    return [torch.from_numpy(kind).float() for kind in kinds], truth


def mean_of(kinds: list[torch.Tensor], calibrations: list, shares: list[float]) -> torch.Tensor:
    return sum(share * fit.apply(kind) for kind, fit, share in zip(kinds, calibrations, shares, strict=True))


def log_likelihood(probs: torch.Tensor, truth: Lists) -> float:
    observed = torch.from_numpy(truth.to_csr(probs.shape[1]).toarray()).float()
    return -float(torch.nn.functional.binary_cross_entropy(probs, observed, reduction="sum")) / len(probs)


def test_the_mean_of_calibrated_kinds_is_timid_and_drawn_out_it_is_right() -> None:
    kinds, truth = world(0)
    fits = [fit_calibration(kind, truth) for kind in kinds]
    shares = fit_weights(kinds, fits, truth).tolist()
    drawn = draw_out(kinds, fits, shares, truth)
    fresh, fresh_truth = world(1)
    before, after = mean_of(fresh, fits, shares), mean_of(fresh, drawn, shares)
    assert fit_calibration(to_logits(before), fresh_truth).slope > 1.1
    again = fit_calibration(to_logits(after), fresh_truth)
    assert again.slope == pytest.approx(1, abs=0.03) and again.intercept == pytest.approx(0, abs=0.06)
    assert log_likelihood(after, fresh_truth) > log_likelihood(before, fresh_truth) + 0.1


def test_one_kind_and_kinds_that_say_the_same_stay_as_they_are() -> None:
    (kind, _), truth = world(2)
    fitted = fit_calibration(kind, truth)
    assert draw_out([kind], [fitted], [1.0], truth) == [fitted]
    same = draw_out([kind, kind], [fitted, fitted], [0.5, 0.5], truth)
    assert same == [fitted, fitted]  # its slope is 1 and its intercept 0 already


def test_all_kinds_are_drawn_out_alike() -> None:
    kinds, truth = world(3)
    fits = [fit_calibration(kind, truth) for kind in kinds]
    drawn = draw_out(kinds, fits, [0.6, 0.4], truth)
    slopes = [after.slope / before.slope for before, after in zip(fits, drawn, strict=True)]
    assert slopes[0] == pytest.approx(slopes[1]) and slopes[0] > 1.05


def test_a_decision_draws_its_kinds_out_and_leaves_uncalibrated_ones_alone() -> None:
    kinds, truth = world(4)
    named = {"network": kinds[0], "forest": kinds[1]}
    decision = fit_decision(named, truth, DecideConfig())
    assert fit_calibration(to_logits(decision.probs(named)), truth).slope == pytest.approx(1, abs=0.002)
    plain = fit_decision(named, truth, DecideConfig(calibration="none"))
    assert {kind.calibration for kind in plain.kinds.values()} == {Calibration()}


def test_more_surveys_than_are_needed_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, truth = world(5)
    fits = [fit_calibration(kind, truth) for kind in kinds]
    whole = draw_out(kinds, fits, [0.5, 0.5], truth)
    monkeypatch.setattr("releve.decide.pool.SAMPLE_SURVEYS", 700)
    part = draw_out(kinds, fits, [0.5, 0.5], truth)
    assert part != whole and part[0].slope == pytest.approx(whole[0].slope, rel=0.05)
    assert part == draw_out(kinds, fits, [0.5, 0.5], truth)


def test_two_calibrations_in_turn_are_one_by_hand() -> None:
    logits = torch.tensor([[-2.0, 0.5, 3.0]])
    first = Calibration(0.5, 1.0)
    both = first.then(1.5, -0.25).apply(logits)
    torch.testing.assert_close(both, torch.sigmoid(1.5 * torch.logit(first.apply(logits)) - 0.25))


def test_kinds_that_know_nothing_do_no_harm() -> None:
    """Constant scores: the mean is the prevalence, and stays it."""
    truth = Lists.from_rows([[0, 1], [1, 2], [2], [0, 2]] * 50)
    kinds = [torch.zeros(200, 5), torch.full((200, 5), -1.0)]
    fits = [fit_calibration(kind, truth) for kind in kinds]
    probs = mean_of(kinds, draw_out(kinds, fits, [0.5, 0.5], truth), [0.5, 0.5])
    torch.testing.assert_close(probs, torch.full((200, 5), 7 / 20), atol=1e-3, rtol=0)
