"""Rules and their fitted settings, by hand and against plain loops."""

import numpy as np
import pytest
import torch

from releve.decide.grid import THRESHOLDS_G, binned_cells
from releve.decide.rules import (
    FITS,
    RULES,
    fit_species_thresholds,
    fit_threshold,
    fit_top_k,
    threshold_sets,
    top_k_sets,
)
from releve.errors import ConfigError, TableError
from releve.lists import Lists
from releve.metrics.sets import score_sets


def rows_of(lists):
    return [lists.row(i).tolist() for i in range(lists.num_surveys)]


@pytest.fixture
def world():
    """300 surveys of 80 species, several per survey, some of them unknown to the model."""
    rng = np.random.default_rng(0)
    probs = rng.random((300, 80)) ** rng.uniform(2, 12, size=80)
    rows, species = np.nonzero(rng.random((300, 80)) < probs)
    unknown = np.flatnonzero(rng.random(300) < 0.3)
    truth = Lists.from_pairs(np.r_[rows, unknown], np.r_[species, np.full(len(unknown), 200)], 300)
    return probs, truth


def sf1(lists, truth):
    return score_sets(lists, truth, 80).sample_f1


def f1_of(listed, observed):
    return 2 * (listed & (observed > 0)).sum() / (listed.sum() + observed.sum())


def test_top_k_lists_hold_the_k_best_and_prefer_low_indices():
    probs = np.array([[0.1, 0.3, 0.3, 0.3], [1.0, 0.0, 0.0, 0.0]])
    assert rows_of(top_k_sets(probs, 2)) == [[1, 2], [0, 1]]
    assert rows_of(top_k_sets(probs, 0)) == [[], []]
    assert rows_of(top_k_sets(probs, 4)) == [[0, 1, 2, 3]] * 2


def test_thresholds_are_reached_by_equality_and_lists_are_filled_up():
    probs = np.array([[0.5, 0.6, 0.1], [0.2, 0.1, 0.3]])
    assert rows_of(threshold_sets(probs, 0.5)) == [[0, 1], [2]]
    assert rows_of(threshold_sets(probs, 0.5, min_size=0)) == [[0, 1], []]
    assert rows_of(threshold_sets(probs, np.array([0.9, 0.7, 0.05]), min_size=2)) == [[1, 2], [0, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_probability_equal_to_a_threshold_of_the_grid_reaches_it_in_any_precision(dtype):
    probs = torch.from_numpy(THRESHOLDS_G)[None, :].to(dtype)
    assert threshold_sets(probs, THRESHOLDS_G).lengths().tolist() == [len(THRESHOLDS_G)]


def test_on_calibrated_probabilities_no_fitted_rule_beats_expected_f1():
    """Rich and poor surveys, so that one length or threshold cannot suit them all."""
    rng = np.random.default_rng(0)
    probs = rng.random((6000, 80)) ** rng.uniform(2, 60, size=(6000, 1))
    truth = Lists.from_pairs(*np.nonzero(rng.random(probs.shape) < probs), 6000)
    fit, test = np.arange(2000), np.arange(2000, 6000)
    assert RULES.keys() == FITS.keys()
    scores = {}
    for name, rule in RULES.items():
        setting = FITS[name](probs[fit], truth.take(fit), 0.9)
        scores[name] = sf1(rule(probs[test], setting), truth.take(test))
    assert max(scores, key=scores.get) == "expected_f1"


def test_the_fitted_k_is_the_best_of_all_k(world):
    probs, truth = world
    tried = [sf1(top_k_sets(probs, k), truth) for k in range(1, 81)]
    assert fit_top_k(probs, truth) == int(np.argmax(tried)) + 1


def test_a_k_beyond_the_first_candidates_is_found():
    rng = np.random.default_rng(1)
    probs = rng.random((5, 400))
    assert fit_top_k(probs, threshold_sets(probs, 0.25)) == pytest.approx(300, abs=20)
    assert fit_top_k(probs, Lists.from_rows([range(400)] * 5)) == 400


def test_the_fitted_threshold_is_the_best_of_the_grid(world):
    probs, truth = world
    tried = [sf1(threshold_sets(probs, t), truth) for t in THRESHOLDS_G]
    fitted = fit_threshold(probs, truth)
    assert sf1(threshold_sets(probs, fitted), truth) == pytest.approx(max(tried), abs=1e-12)


def test_species_thresholds_are_the_best_of_the_grid_shrunk_by_presences(world, monkeypatch):
    probs, truth = world
    monkeypatch.setattr("releve.decide.rules.SHRINKAGE", 1e-9)
    own, dense = fit_species_thresholds(probs, truth), truth.to_csr(80).toarray()
    for s in range(80):
        best = max(f1_of(probs[:, s] >= t, dense[:, s]) for t in THRESHOLDS_G)
        assert f1_of(probs[:, s] >= own[s] * (1 + 1e-9), dense[:, s]) == pytest.approx(best, abs=1e-12)


def test_rare_species_are_shrunk_to_the_global_threshold():
    """10 presences: half way in log-odds; none: the global threshold itself."""
    probs = np.full((100, 3), 0.01)
    probs[:, 0], probs[:10, 1], probs[:10, 2] = 0.9, 0.5, 0.02
    truth = Lists.from_rows([[0, 1]] * 10 + [[0]] * 90)
    general = fit_threshold(probs, truth)
    own = fit_species_thresholds(probs, truth)
    assert own[2] == pytest.approx(general)
    log_odds = np.log(own[1] / (1 - own[1])), np.log(general / (1 - general))
    middle = (np.log(0.01 / 0.99) + np.log(0.5 / 0.5)) / 2  # of the thresholds that part 0.5 from 0.01
    assert log_odds[0] == pytest.approx((middle + log_odds[1]) / 2, abs=0.02)


def test_blocks_of_rows_do_not_change_a_fit(world, monkeypatch):
    probs, truth = world
    fits = {name: fit for name, fit in FITS.items() if name != "expected_f1"}
    before = [np.asarray(fit(probs, truth, 0.4), dtype=float) for fit in fits.values()]
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 999)
    after = [np.asarray(fit(probs, truth, 0.4), dtype=float) for fit in fits.values()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other)


@pytest.mark.parametrize("k", [-1, 4, 1.5])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(ConfigError, match="k is"):
        top_k_sets(np.zeros((1, 3)), k)


def test_bad_thresholds_sizes_and_probabilities_are_refused():
    probs = np.zeros((1, 3))
    with pytest.raises(ConfigError, match="shape"):
        threshold_sets(probs, np.zeros(2))
    with pytest.raises(ConfigError, match="NaN"):
        threshold_sets(probs, np.nan)
    with pytest.raises(ConfigError, match="min_size"):
        threshold_sets(probs, 0.5, min_size=4)
    with pytest.raises(TableError, match="1 NaN"):
        top_k_sets(np.array([[np.nan, 0.0]]), 1)


@pytest.mark.parametrize("fit", [fit_top_k, fit_threshold, fit_species_thresholds])
def test_fits_refuse_rows_that_do_not_match_the_truth(fit):
    with pytest.raises(TableError, match="2 rows of scores for 1 observed sets"):
        fit(np.zeros((2, 3)), Lists.from_rows([[0]]))


def test_every_value_falls_in_the_bin_of_the_highest_threshold_it_reaches():
    """Thresholds, their neighbours in float32 and float64, and random values."""
    near = [THRESHOLDS_G, np.nextafter(THRESHOLDS_G, 0), np.nextafter(THRESHOLDS_G, 1), [0.0, 1.0]]
    random = np.random.default_rng(0).random(20_000) ** 4
    for values in (np.concatenate([*near, random]), np.concatenate([*near, random]).astype(np.float32)):
        _, columns, bins = binned_cells(torch.from_numpy(values[None, :]))
        expected = np.searchsorted(THRESHOLDS_G, values.astype(np.float64), side="right") - 1
        np.testing.assert_array_equal(columns, np.flatnonzero(expected >= 0))
        np.testing.assert_array_equal(bins, expected[expected >= 0])
