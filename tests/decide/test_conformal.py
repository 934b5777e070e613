"""Thresholds by brute force over every candidate, against MAPIE, and the promises they make in simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from mapie.risk_control import MultiLabelClassificationController
from mapie.risk_control.fwer_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

from releve.decide.conformal import (
    check_coverage,
    false_risk_threshold,
    hoeffding_bentkus,
    miss_rate_thresholds,
    miss_risk_threshold,
    row_threshold_sets,
)
from releve.decide.grid import THRESHOLDS_G
from releve.decide.rules import threshold_sets
from releve.errors import ConfigError, TableError
from releve.lists import Lists

MISS = [lambda p, t, c: miss_rate_thresholds(p, t, c)[0], miss_risk_threshold]
EVERY = [*MISS, false_risk_threshold]


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


def false_rates(lists, truth):
    listed, _, both = shares(lists, truth)
    return np.where(listed > 0, 1 - both / np.maximum(listed, 1), 0.0)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.93])
def test_the_threshold_is_the_highest_of_all_that_keep_the_bound(coverage):
    probs, truth = world(num_surveys=30)
    fitted = float(miss_rate_thresholds(probs, truth, coverage)[0])

    def bound(threshold):
        missed = miss_rates(threshold_sets(probs, threshold, min_size=0), truth)
        return (missed.sum() + 1) / (len(missed) + 1)

    kept = [t for t in np.unique(probs) if bound(t) <= 1 - coverage + 1e-12]
    assert fitted == max(kept)


def test_weights_are_as_copies_of_surveys():
    """A survey of weight 3 is one that stands there three times; a weight of 0 leaves it out."""
    probs, truth = world(num_surveys=80)
    copies = np.random.default_rng(1).integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), copies)
    expected = miss_rate_thresholds(probs[repeated], truth.take(repeated), 0.85)
    found = miss_rate_thresholds(probs, truth, 0.85, weights_N=copies, weights_M=np.ones(3))
    np.testing.assert_array_equal(found, np.repeat(expected, 3))
    scaled = miss_rate_thresholds(probs, truth, 0.85, weights_N=7 * copies, weights_M=np.full(3, 7.0))
    np.testing.assert_array_equal(found, scaled)


def test_a_new_survey_that_outweighs_the_others_gets_all_species():
    probs, truth = world(num_surveys=50)
    thresholds = miss_rate_thresholds(probs, truth, 0.9, weights_M=np.array([1.0, 4.0, 100.0]))
    assert thresholds[0] > thresholds[1] > thresholds[2] == 0
    assert row_threshold_sets(probs[:3], thresholds).lengths()[2] == 30


def test_on_average_over_calibration_sets_the_miss_rate_is_just_kept():
    test_probs, test_truth = world(3000, seed=1)
    mean_rates = []
    for seed in range(2, 42):
        threshold = miss_rate_thresholds(*world(100, seed=seed), 0.8)
        mean_rates.append(miss_rates(row_threshold_sets(test_probs, threshold), test_truth).mean())
    error = 3 * np.std(mean_rates) / np.sqrt(40)
    assert 0.2 - 1 / 101 - 0.01 - error <= np.mean(mean_rates) <= 0.2 + error


@pytest.mark.parametrize(("fit", "rates"), [(miss_risk_threshold, miss_rates), (false_risk_threshold, false_rates)])
def test_the_risk_stays_below_for_nine_calibration_sets_of_ten(fit, rates):
    test_probs, test_truth = world(3000, seed=1)
    means = []
    for seed in range(2, 42):
        threshold = fit(*world(200, seed=seed), 0.6)
        means.append(rates(threshold_sets(test_probs, threshold, min_size=0), test_truth).mean())
    assert np.mean(np.array(means) > 0.4) <= 0.1
    assert np.mean(means) > 0.3  # and it is no empty promise


def test_the_bound_is_the_smaller_of_hoeffding_and_bentkus_by_hand():
    """30 surveys with a mean of .1 against .2: ceil(3) = 3 faults."""
    hoeffding = (0.1 / 0.2) ** (-3.0) * (0.9 / 0.8) ** (-27.0)
    bentkus = np.e * scipy.stats.binom.cdf(3, 30, 0.2)
    assert hoeffding_bentkus(np.array([0.1]), 30, 0.2)[0] == pytest.approx(min(hoeffding, bentkus))
    assert hoeffding_bentkus(np.array([0.2, 0.9]), 30, 0.2).tolist() == [1.0, 1.0]


def test_risk_control_by_brute_force_over_all_candidates():
    probs, truth = world(num_surveys=50)
    fitted = miss_risk_threshold(probs, truth, 0.8)
    kept = []
    for t in np.unique(probs):
        missed = miss_rates(threshold_sets(probs, t, min_size=0), truth)
        if hoeffding_bentkus(np.array([missed.mean()]), len(missed), 0.2)[0] <= 0.1:
            kept.append(t)
    assert fitted == max(kept)


def test_false_lists_are_tested_downwards_until_one_cannot_be_refused():
    probs, truth = world(num_surveys=300)
    fitted = false_risk_threshold(probs, truth, 0.5)
    for t in THRESHOLDS_G[::-1]:
        mean = false_rates(threshold_sets(probs, t, min_size=0), truth).mean()
        if hoeffding_bentkus(np.array([mean]), 300, 0.5)[0] > 0.1:
            break
        last = t
    assert fitted == last


@pytest.mark.parametrize("fit", EVERY)
def test_blocks_tensors_and_half_precision_give_the_same_lists(fit, monkeypatch):
    probs, truth = world()
    low = torch.from_numpy(probs).to(torch.float16)
    expected = fit(low, truth, 0.6)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 333)
    assert fit(low.float().numpy(), truth, 0.6) == expected


@pytest.mark.parametrize("fit", EVERY)
def test_more_coverage_never_makes_the_lists_worse(fit):
    probs, truth = world(2000)
    thresholds = [fit(probs, truth, coverage) for coverage in (0.3, 0.5, 0.7)]
    assert thresholds == sorted(thresholds, reverse=fit is not false_risk_threshold)


@pytest.mark.parametrize("fit", MISS)
def test_constant_scores_list_all_species(fit):
    truth = world()[1]
    assert fit(np.full((400, 30), 0.3), truth, 0.9) == 0.3


@pytest.mark.parametrize("fit", MISS)
def test_surveys_without_a_species_do_not_count(fit):
    probs, truth = world()
    more = Lists.from_rows([*(truth.row(i) for i in range(400)), *([[]] * 200)])
    assert fit(np.concatenate([probs, np.zeros((200, 30))]), more, 0.8) == fit(probs, truth, 0.8)
    with pytest.raises(TableError, match="no calibration survey has an observed species"):
        fit(probs[:2], Lists.from_rows([[], []]), 0.8)


@pytest.mark.parametrize("fit", MISS)
def test_species_that_the_model_does_not_know_are_always_missed(fit):
    probs, truth = world()
    unknown = Lists.from_rows([[*truth.row(i), 99] if i % 10 == 0 else truth.row(i) for i in range(400)])
    assert fit(probs, unknown, 0.8) < fit(probs, truth, 0.8)
    with pytest.raises(TableError, match=r"no list covers 0.8 .* whose species the model does not know"):
        fit(probs, Lists.from_rows([[98, 99]] * 400), 0.8)


@pytest.mark.parametrize("fit", EVERY)
def test_too_few_surveys_for_a_promise_are_an_error_that_says_how_many(fit):
    probs = np.full((5, 2), 0.99)
    with pytest.raises(TableError, match=r"expected at least (99|230) surveys"):
        fit(probs, Lists.from_rows([[0, 1]] * 5), 0.99)
    assert fit(np.full((230, 2), 0.99), Lists.from_rows([[0, 1]] * 230), 0.99) <= 0.99


@pytest.mark.parametrize("fit", EVERY)
@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, float("nan")])
def test_a_coverage_of_0_or_1_is_refused_with_the_reason(fit, coverage):
    with pytest.raises(ConfigError, match=r"coverage is .*which any list keeps"):
        fit(*world(50), coverage)


def test_a_confidence_of_1_is_refused():
    for fit in (miss_risk_threshold, false_risk_threshold):
        with pytest.raises(ConfigError, match="confidence is 1"):
            fit(*world(50), 0.5, 1.0)
    check_coverage(0.5)


@pytest.mark.parametrize("fit", EVERY)
def test_bad_probabilities_and_an_empty_calibration_role_are_refused(fit):
    with pytest.raises(TableError, match="1 NaN"):
        fit(np.array([[np.nan, 0.1]]), Lists.from_rows([[0]]), 0.5)
    with pytest.raises(TableError, match="1 values outside"):
        fit(np.array([[1.5, 0.1]]), Lists.from_rows([[0]]), 0.5)
    with pytest.raises(TableError, match="0 rows of probabilities.*must not be empty"):
        fit(np.zeros((0, 2)), Lists.from_rows([]), 0.5)
    with pytest.raises(TableError, match="2 rows of probabilities for 1"):
        fit(np.zeros((2, 2)), Lists.from_rows([[0]]), 0.5)


def test_bad_weights_and_thresholds_are_refused():
    probs, truth = world(50)
    for wrong in (np.ones(3), np.full(50, np.nan), np.full(50, -1.0), np.zeros(50)):
        with pytest.raises(TableError, match="expected 50 weights of 0 or more"):
            miss_rate_thresholds(probs, truth, 0.5, weights_N=wrong)
    with pytest.raises(TableError, match="expected 2 weights"):
        miss_rate_thresholds(probs, truth, 0.5, weights_M=np.array([1.0, np.inf]))
    with pytest.raises(TableError, match=r"thresholds of shape \(3,\)"):
        row_threshold_sets(probs, np.ones(3))


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
    ours = float(miss_rate_thresholds(probs, truth, coverage)[0])
    best = float(np.ravel(theirs.best_predict_param)[0])
    assert best < ours <= best + 0.01  # the last of the grid that is lower: theirs lists what is over it


def test_the_p_values_are_those_of_mapie():
    rates = np.array([0.0, 0.01, 0.033, 0.1, 0.15, 0.3])
    theirs = compute_hoeffding_bentkus_p_value(rates, 100, 0.2)[:, 0]
    np.testing.assert_allclose(hoeffding_bentkus(rates, 100, 0.2), np.minimum(theirs, 1))


@pytest.mark.parametrize("coverage", [0.4, 0.5, 0.6])
def test_learn_then_test_keeps_the_thresholds_that_mapie_s_fixed_sequence_keeps(coverage):
    """Its p-values and its test in order, on false-list rates counted here threshold by threshold."""
    probs, truth = world(num_surveys=300)
    downwards = THRESHOLDS_G[::-1]
    means = [false_rates(threshold_sets(probs, t, min_size=0), truth).mean() for t in downwards]
    p_values = compute_hoeffding_bentkus_p_value(np.array(means), 300, 1 - coverage)[:, 0]
    kept = control_fwer(p_values, 0.1, fwer_method="fixed_sequence")
    assert 0 < len(kept) < len(downwards)
    assert false_risk_threshold(probs, truth, coverage) == downwards[kept.max()]
