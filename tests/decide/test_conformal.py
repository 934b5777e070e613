"""Thresholds by brute force over every candidate, against MAPIE, and the promises they make in simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapie.risk_control import MultiLabelClassificationController

from releve.decide.conformal import miss_rate_threshold
from releve.decide.rules import threshold_sets
from releve.errors import TableError
from releve.lists import Lists


def world(num_surveys=400, num_species=30, seed=0, shift=0.0):
    """Poorly calibrated probabilities, sets of several species, some of them empty."""
    rng = np.random.default_rng(seed)
    known = rng.normal(-2 + shift, 2, (num_surveys, num_species))
    truth = Lists.from_pairs(*np.nonzero(rng.random(known.shape) < 1 / (1 + np.exp(-known))), num_surveys)
    return 1 / (1 + np.exp(-0.5 * (known + rng.normal(0, 1, known.shape)))), truth


def shares(lists, truth):
    """Species listed, observed and both, of each survey."""
    listed, observed = (x.to_csr(30).toarray() for x in (lists, truth))
    return listed.sum(axis=1), truth.lengths(), (listed * observed).sum(axis=1)


def miss_rates(lists, truth):
    """(surveys with a species,)."""
    _, observed, both = shares(lists, truth)
    return 1 - both[observed > 0] / observed[observed > 0]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.93])
def test_the_threshold_is_the_highest_of_all_that_keep_the_bound(coverage):
    probs, truth = world(num_surveys=30)
    fitted = float(miss_rate_threshold(probs, truth, coverage))

    def bound(threshold):
        missed = miss_rates(threshold_sets(probs, threshold, min_size=0), truth)
        return (missed.sum() + 1) / (len(missed) + 1)

    kept = [t for t in np.unique(probs) if bound(t) <= 1 - coverage + 1e-12]
    assert fitted == max(kept)


def test_on_average_over_calibration_sets_the_miss_rate_is_just_kept():
    test_probs, test_truth = world(3000, seed=1)
    mean_rates = []
    for seed in range(2, 42):
        threshold = miss_rate_threshold(*world(100, seed=seed), 0.8)
        mean_rates.append(miss_rates(threshold_sets(test_probs, threshold, min_size=0), test_truth).mean())
    error = 3 * np.std(mean_rates) / np.sqrt(40)
    assert 0.2 - 1 / 101 - 0.01 - error <= np.mean(mean_rates) <= 0.2 + error


def test_blocks_tensors_and_half_precision_give_the_same_lists(monkeypatch):
    probs, truth = world()
    low = torch.from_numpy(probs).to(torch.float16)
    expected = miss_rate_threshold(low, truth, 0.6)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 333)
    assert miss_rate_threshold(low.float().numpy(), truth, 0.6) == expected


def test_more_coverage_never_makes_the_lists_worse():
    probs, truth = world(2000)
    thresholds = [miss_rate_threshold(probs, truth, coverage) for coverage in (0.3, 0.5, 0.7)]
    assert thresholds == sorted(thresholds, reverse=True)


def test_constant_scores_list_all_species():
    truth = world()[1]
    assert miss_rate_threshold(np.full((400, 30), 0.3), truth, 0.9) == 0.3


def test_surveys_without_a_species_do_not_count():
    probs, truth = world()
    more = Lists.from_rows([*(truth.row(i) for i in range(400)), *([[]] * 200)])
    assert miss_rate_threshold(np.concatenate([probs, np.zeros((200, 30))]), more, 0.8) == miss_rate_threshold(
        probs, truth, 0.8
    )
    with pytest.raises(TableError, match="no calibration survey has an observed species"):
        miss_rate_threshold(probs[:2], Lists.from_rows([[], []]), 0.8)


def test_species_that_the_model_does_not_know_are_always_missed():
    probs, truth = world()
    unknown = Lists.from_rows([[*truth.row(i), 99] if i % 10 == 0 else truth.row(i) for i in range(400)])
    assert miss_rate_threshold(probs, unknown, 0.8) < miss_rate_threshold(probs, truth, 0.8)
    with pytest.raises(TableError, match=r"no list covers 0.8 .* whose species the model does not know"):
        miss_rate_threshold(probs, Lists.from_rows([[98, 99]] * 400), 0.8)


def test_too_few_surveys_for_a_promise_are_an_error_that_says_how_many():
    probs = np.full((5, 2), 0.99)
    with pytest.raises(TableError, match=r"expected 99 surveys or more"):
        miss_rate_threshold(probs, Lists.from_rows([[0, 1]] * 5), 0.99)
    assert miss_rate_threshold(np.full((230, 2), 0.99), Lists.from_rows([[0, 1]] * 230), 0.99) <= 0.99


def test_bad_probabilities_and_an_empty_calibration_role_are_refused():
    with pytest.raises(TableError, match="1 NaN"):
        miss_rate_threshold(np.array([[np.nan, 0.1]]), Lists.from_rows([[0]]), 0.5)
    with pytest.raises(TableError, match="1 values outside"):
        miss_rate_threshold(np.array([[1.5, 0.1]]), Lists.from_rows([[0]]), 0.5)
    with pytest.raises(TableError, match="0 rows of scores.*Fit on held-out surveys"):
        miss_rate_threshold(np.zeros((0, 2)), Lists.from_rows([]), 0.5)
    with pytest.raises(TableError, match="2 rows of scores for 1"):
        miss_rate_threshold(np.zeros((2, 2)), Lists.from_rows([[0]]), 0.5)


def mapie_controller(probs, truth, grid, **settings):
    """MAPIE's, fitted on surveys with a species; it lists what is over a value of the grid."""
    rows = np.flatnonzero(truth.lengths() > 0)
    observed = truth.take(rows).to_csr(probs.shape[1]).toarray().astype(int)
    controller = MultiLabelClassificationController(lambda x: x, predict_params=grid, **settings)
    return controller.calibrate(probs[rows], observed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_conformal_risk_control_is_that_of_mapie(coverage):
    probs, truth = world()
    grid = np.arange(0.0025, 1, 0.01)
    theirs = mapie_controller(probs, truth, grid, risk="recall", method="crc", target_level=coverage)
    ours = float(miss_rate_threshold(probs, truth, coverage))
    best = float(np.ravel(theirs.best_predict_param)[0])
    assert best < ours <= best + 0.01  # the last of the grid that is lower: theirs lists what is over it
