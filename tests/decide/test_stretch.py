"""The mean of several folds is stretched until it is as calibrated as one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.stretch import LARGEST, MIN_SURVEYS, FoldStretch, fit_stretch
from releve.lists import Lists


def make_folds(num_folds: int, num_surveys: int, seed: int, noise: float = 0.7) -> tuple[list[torch.Tensor], Lists]:
    """Return calibrated probabilities of members that know the truth up to an error of their own, and the truth."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(-1.5, 1.5, (num_surveys, 20))
    truth = Lists.from_pairs(*np.nonzero(rng.random(signal.shape) < 1 / (1 + np.exp(-signal))), num_surveys)
    tables = [torch.from_numpy(signal + rng.normal(0, noise, signal.shape)) for _ in range(num_folds)]
    return [fit_calibration(table, truth).apply(table) for table in tables], truth


@pytest.mark.parametrize("num_folds", [2, 5, 10])
def test_what_two_folds_tell_makes_the_mean_of_any_number_calibrated_on_other_surveys(num_folds: int) -> None:
    pair, observed = make_folds(2, 2000, seed=1)
    stretch = fit_stretch(*pair, observed)
    folds, truth = make_folds(num_folds, 4000, seed=2)
    mean = torch.stack(folds).mean(dim=0)
    before, after = (fit_calibration(to_logits(p), truth) for p in (mean, stretch.apply(mean, num_folds)))
    assert before.slope > 1.05
    assert after.slope == pytest.approx(1.0, abs=0.03) and after.intercept == pytest.approx(0.0, abs=0.05)


def test_one_fold_and_too_few_surveys_are_left_as_they_are() -> None:
    folds, truth = make_folds(2, MIN_SURVEYS - 1, seed=1)
    assert fit_stretch(*folds, truth) == FoldStretch()
    assert torch.equal(FoldStretch().apply(folds[0], 5), folds[0])
    assert torch.equal(FoldStretch(slope_of_two=1.2).apply(folds[0], 1), folds[0])


def test_folds_that_agree_wholly_want_nothing() -> None:
    folds, truth = make_folds(1, 500, seed=3)
    stretch = fit_stretch(folds[0], folds[0], truth)
    assert stretch.slope(5) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("num_folds", [2, 5])
def test_as_many_presences_are_expected_after_as_before(noise: float, num_folds: int) -> None:
    """Also where members differ so much that the slope is cut: it once lifted rare species to 2.6 times their share."""
    pair, observed = make_folds(2, 1000, seed=1, noise=noise)
    stretch = fit_stretch(*pair, observed)
    assert 1 < stretch.slope_of_two <= LARGEST
    mean = torch.stack(make_folds(num_folds, 1000, seed=2, noise=noise)[0]).mean(dim=0)
    assert stretch.apply(mean, num_folds).mean().item() == pytest.approx(mean.mean().item(), rel=0.02)


def test_what_tells_nothing_stretches_nothing_and_stops_no_run() -> None:
    (first, second), truth = make_folds(2, 200, seed=4)
    empty = Lists.from_rows([[] for _ in range(200)])
    assert fit_stretch(first, second, empty) == FoldStretch()
    flat = fit_stretch(first, torch.full_like(first, 0.2), truth)  # a slope of 0, whose sign is rounding
    assert 1 <= flat.slope_of_two <= LARGEST
    assert fit_stretch(first, 1 - second, truth) == FoldStretch()  # wrong on purpose: its slope is below 0
