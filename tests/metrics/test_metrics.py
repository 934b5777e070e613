"""Metrics by hand, against scikit-learn, and against their invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from releve.errors import TableError
from releve.lists import Lists
from releve.metrics import blocks as metric_blocks
from releve.metrics.cells import score_cells
from releve.metrics.intervals import bootstrap_interval, ratio_interval, resample_species_f1
from releve.metrics.ranks import boyce_index, rank_scores
from releve.metrics.sets import score_sets


def lists_of(dense):
    return Lists.from_pairs(*np.nonzero(dense), len(dense))


@pytest.fixture
def plots():
    """Truth, lists and coarse scores (many ties) of 200 surveys and 30 species, some species never seen."""
    rng = np.random.default_rng(0)
    truth = rng.random((200, 30)) < np.linspace(0, 0.5, 30)
    predicted = (rng.random((200, 30)) < 0.2) | (truth & (rng.random((200, 30)) < 0.5))
    predicted[3] = truth[5] = False
    predicted[7] = truth[7] = False
    scores = (rng.random((200, 30)) + truth).round(1)
    return truth, predicted, scores


def test_three_plots_scored_by_hand():
    """P = {0,1}, {2}, {}; T = {0}, {1,2,3}, {0}: F1 2/3, 2/4, 0; Jaccard 1/2, 1/3, 0; 2 hits of 3 and 5."""
    scores = score_sets(Lists.from_rows([[0, 1], [2], []]), Lists.from_rows([[0], [1, 2, 3], [0]]), 4)
    assert scores.per_survey_f1.tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores.sample_f1 == pytest.approx(7 / 18)
    assert scores.micro_f1 == pytest.approx(2 * 2 / (3 + 5))
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert scores.precision == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert scores.recall == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert scores.jaccard == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert scores.richness_bias == pytest.approx((1 - 2 - 1) / 3)
    assert scores.richness_mae == pytest.approx((1 + 2 + 1) / 3)
    assert scores.per_species.rows() == [
        (0, 2, 1, 1, 1.0, 0.5, pytest.approx(2 / 3)),
        (1, 1, 1, 0, 0.0, 0.0, 0.0),
        (2, 1, 1, 1, 1.0, 1.0, 1.0),
        (3, 1, 0, 0, None, 0.0, 0.0),
    ]
    assert set(scores.summary()) == {
        "sample_f1", "micro_f1", "macro_f1", "precision", "recall", "jaccard", "num_surveys", "richness_bias",
        "richness_mae",
    }  # fmt: skip


def test_set_scores_equal_scikit_learn(plots):
    truth, predicted, _ = plots
    scores = score_sets(lists_of(predicted), lists_of(truth), 30)
    bare = ~truth.any(axis=1) & ~predicted.any(axis=1)
    assert 0 < bare.sum() < len(bare)
    for value, function, average in [
        (scores.sample_f1, f1_score, "samples"),
        (scores.micro_f1, f1_score, "micro"),
        (scores.precision, precision_score, "samples"),
        (scores.recall, recall_score, "samples"),
        (scores.jaccard, jaccard_score, "samples"),
    ]:
        theirs = function(truth, predicted, average=average, zero_division=0)
        assert value == pytest.approx(theirs + (bare.mean() if average == "samples" else 0), abs=1e-12)
    present = np.flatnonzero(truth.any(axis=0))
    assert len(present) < 30
    macro = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert scores.macro_f1 == pytest.approx(macro, abs=1e-12)


def test_a_species_unknown_to_the_model_is_missed():
    predicted = Lists.from_rows([[0], [1]])
    scores = score_sets(predicted, Lists.from_rows([[0, 9], [1]]), 2)
    assert scores.per_survey_f1.tolist() == pytest.approx([2 / 3, 1])
    assert scores.recall == pytest.approx(3 / 4)
    assert scores.macro_f1 == pytest.approx(2 / 3)


def test_an_empty_list_is_right_where_nothing_grew_and_earns_nothing_elsewhere():
    predicted, truth = Lists.from_rows([[], [], [0], [0, 1]]), Lists.from_rows([[], [0, 2], [], [1]])
    scores = score_sets(predicted, truth, 3)
    assert scores.per_survey_f1.tolist() == pytest.approx([1, 0, 0, 2 / 3])
    assert scores.jaccard == scores.precision == pytest.approx((1 + 1 / 2) / 4)
    assert scores.recall == pytest.approx((1 + 1) / 4)
    dense = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]])
    listed = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert scores.sample_f1 == pytest.approx(f1_score(dense, listed, average="samples", zero_division=1))


def test_empty_sets_alone_have_no_pooled_score():
    scores = score_sets(Lists.from_rows([[]]), Lists.from_rows([[]]), 3)
    assert (scores.sample_f1, scores.micro_f1, scores.macro_f1, scores.jaccard) == (1, 0, 0, 1)


def test_the_score_of_the_whole_is_the_mean_over_surveys_in_any_order(plots):
    truth, predicted, _ = plots
    order = np.random.default_rng(1).permutation(200)
    whole = score_sets(lists_of(predicted), lists_of(truth), 30)
    shuffled = score_sets(lists_of(predicted).take(order), lists_of(truth).take(order), 30)
    np.testing.assert_array_equal(shuffled.per_survey_f1, whole.per_survey_f1[order])
    assert shuffled.summary() == pytest.approx(whole.summary())


def test_mismatched_or_impossible_lists_are_refused():
    one = Lists.from_rows([[0]])
    with pytest.raises(TableError, match="2 predicted lists for 1 surveys"):
        score_sets(Lists.from_rows([[0], [1]]), one, 2)
    with pytest.raises(TableError, match="0 predicted lists"):
        score_sets(Lists.from_rows([]), Lists.from_rows([]), 2)
    with pytest.raises(TableError, match="names species index 5"):
        score_sets(Lists.from_rows([[5]]), one, 2)


def test_auc_and_ap_equal_scikit_learn_with_ties(plots):
    truth, _, scores = plots
    truth[:, 29] = True  # present everywhere: no AUC
    ranks = rank_scores(scores, lists_of(truth))
    for s in range(30):
        if not truth[:, s].any():
            assert np.isnan([ranks.auc_S[s], ranks.ap_S[s]]).all()
            continue
        assert ranks.ap_S[s] == pytest.approx(average_precision_score(truth[:, s], scores[:, s]), abs=1e-12)
        if s < 29:
            assert ranks.auc_S[s] == pytest.approx(roc_auc_score(truth[:, s], scores[:, s]), abs=1e-12)
    assert np.isnan(ranks.auc_S[29])
    assert ranks.num_species_scored == np.isfinite(ranks.auc_S).sum() < 29
    assert ranks.auc_macro == pytest.approx(np.nanmean(ranks.auc_S))
    assert ranks.ap_macro == pytest.approx(np.nanmean(ranks.ap_S))


def test_tensors_and_increasing_transformations_give_the_same_ranks(plots):
    truth, _, scores = plots
    ranks = rank_scores(scores, lists_of(truth))
    again = rank_scores(torch.from_numpy(scores * 3 - 7).requires_grad_(), lists_of(truth))
    np.testing.assert_array_equal(ranks.auc_S, again.auc_S)
    assert ranks.top_k_accuracy == again.top_k_accuracy


def test_top_k_accuracy_counts_pairs_and_breaks_ties_by_index(plots):
    truth, _, scores = plots
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.argsort(order, axis=1)
    ranks = rank_scores(scores, lists_of(truth), top_k=(1, 5, 40))
    assert ranks.top_k_accuracy[1] == pytest.approx((rank[truth] < 1).mean())
    assert ranks.top_k_accuracy[5] == pytest.approx((rank[truth] < 5).mean())
    assert ranks.top_k_accuracy[40] == 1


def test_top_k_accuracy_of_constant_scores_and_unknown_species():
    ranks = rank_scores(np.zeros((1, 5)), Lists.from_rows([[0, 1, 4, 77]]), top_k=(2, 5))
    assert ranks.top_k_accuracy == {2: 2 / 4, 5: 3 / 4}
    assert np.isnan(ranks.auc_macro)
    assert rank_scores(np.zeros((1, 5)), Lists.from_rows([[]]), top_k=()).top_k_accuracy == {}


def test_nan_and_infinite_scores_are_refused():
    truth = Lists.from_rows([[0], [1]])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(TableError, match="1 scores are NaN or infinite"):
            rank_scores(np.array([[0.0, bad], [1.0, 2.0]]), truth)
    with pytest.raises(TableError, match="shape"):
        rank_scores(np.zeros((3, 2)), truth)


def test_the_bootstrap_of_single_surveys_approaches_the_normal_interval():
    values = np.random.default_rng(0).normal(size=2000)
    low, high = bootstrap_interval(values, np.arange(2000), np.random.default_rng(1), num_resamples=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)


def test_alike_neighbours_widen_the_interval_and_the_seed_fixes_it():
    values = np.repeat(np.random.default_rng(0).normal(size=40), 25)
    alone = bootstrap_interval(values, np.arange(1000), np.random.default_rng(1))
    blocks = bootstrap_interval(values, np.repeat(np.arange(40), 25).astype(str), np.random.default_rng(1))
    assert blocks[1] - blocks[0] > 3 * (alone[1] - alone[0])
    again = bootstrap_interval(values, np.repeat(np.arange(40), 25), np.random.default_rng(1))
    assert again == pytest.approx(bootstrap_interval(values, np.repeat(np.arange(40), 25), np.random.default_rng(1)))


def test_a_single_block_has_no_interval_and_bad_values_are_refused():
    rng = np.random.default_rng(0)
    assert np.isnan(bootstrap_interval(np.ones(3), np.zeros(3), rng)).all()
    with pytest.raises(TableError, match="1 of 2 values"):
        bootstrap_interval(np.array([np.nan, 1.0]), np.arange(2), rng)
    with pytest.raises(TableError, match="for 3 blocks"):
        bootstrap_interval(np.ones(2), np.arange(3), rng)
    with pytest.raises(TableError, match="for 0 blocks"):
        bootstrap_interval(np.ones(0), np.arange(0), rng)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=8))
def test_lists_hold_the_sets_they_were_made_from(rows):
    lists = Lists.from_rows(rows)
    assert [lists.row(i).tolist() for i in range(lists.num_surveys)] == [sorted(set(row)) for row in rows]
    again = Lists.from_pairs(lists.surveys()[::-1], lists.indices[::-1], len(rows))
    assert again.indices.tolist() == lists.indices.tolist()
    dense = lists.to_csr(7).toarray()
    assert [np.flatnonzero(row).tolist() for row in dense] == [sorted({s for s in row if s < 7}) for row in rows]
    if rows:
        picked = lists.take(np.array([len(rows) - 1, 0]))
        assert picked.row(0).tolist() == sorted(set(rows[-1]))
        assert picked.row(1).tolist() == sorted(set(rows[0]))


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 2], [1, 1], "repeated or out of order"),
        ([0, 0, 2, 2], [4, 3], "repeated or out of order"),
        ([0, 2, 1], [1, 2], "not ascending"),
        ([1, 2], [1, 2], "not ascending"),
        ([], [], "not ascending"),
        ([0, 3], [1, 2], "indices"),
        ([0, 1], [-1], "negative"),
    ],
)
def test_arrays_that_are_not_sets_are_refused(indptr, indices, message):
    with pytest.raises(TableError, match=message):
        Lists(np.array(indptr, dtype=np.int64), np.array(indices))


def test_pairs_and_rows_outside_the_surveys_are_refused():
    with pytest.raises(TableError, match="rows 0 to 5"):
        Lists.from_pairs(np.array([0, 5]), np.array([1, 1]), 5)
    with pytest.raises(TableError, match="species from -1"):
        Lists.from_pairs(np.array([0]), np.array([-1]), 5)
    with pytest.raises(IndexError):
        Lists.from_rows([[1]]).row(1)


def test_a_hundred_thousand_surveys_need_no_dense_table():
    rng = np.random.default_rng(0)
    surveys = np.repeat(np.arange(100_000), 20)
    truth = Lists.from_pairs(surveys, rng.integers(0, 10_000, len(surveys)), 100_000)
    assert score_sets(truth, truth, 10_000).sample_f1 == 1


@pytest.fixture
def calibrated():
    """Probabilities of 300 surveys and 12 species, rare to common, and a truth drawn from them."""
    rng = np.random.default_rng(0)
    probs = 1 / (1 + np.exp(-(rng.normal(0, 1.5, (300, 12)) + np.linspace(-4, 1, 12))))
    return probs.astype(np.float32), rng.random((300, 12)) < probs


def test_brier_scores_equal_scikit_learn(calibrated):
    probs, truth = calibrated
    cells = score_cells(probs, lists_of(truth))
    expected = [brier_score_loss(truth[:, s], probs[:, s]) for s in range(12)]
    np.testing.assert_allclose(cells.brier_S(), expected, rtol=1e-5)
    assert cells.brier() == pytest.approx(np.mean(expected), rel=1e-5)


def test_calibration_slope_and_intercept_equal_an_unpenalised_logistic_regression(calibrated):
    probs, truth = calibrated
    too_bold = 1 / (1 + np.exp(-(2 * np.log(probs / (1 - probs)) + 0.5)))
    z = np.log(too_bold / (1 - too_bold)).reshape(-1, 1)
    model = LogisticRegression(C=1e9).fit(z, truth.ravel())
    slope, intercept = score_cells(too_bold, lists_of(truth)).calibration()
    assert (slope, intercept) == pytest.approx((model.coef_.item(), model.intercept_.item()), abs=2e-3)
    assert slope == pytest.approx(0.5, abs=0.05)


def test_calibration_error_and_reliability_by_hand():
    """Log-odds 0 and log 3: bins of width 1 from 0 and from 1. Gaps |1/2 - 1/2| and |3/4 - 0|, 4 and 2 cells."""
    probs = np.array([[0.5, 0.75], [0.5, 0.75], [0.5, 0.5]])
    cells = score_cells(probs, Lists.from_rows([[0], [], [0]]))
    assert cells.reliability().rows() == [(0.5, 0.5, 4), (0.75, 0.0, 2)]
    assert cells.ece() == pytest.approx((4 * 0 + 2 * 0.75) / 6)


def test_classes_of_species_have_scores_of_their_own(calibrated):
    probs, truth = calibrated
    class_of = np.arange(12) // 6
    cells = score_cells(probs, lists_of(truth), class_of_species=class_of, classes=("rare", "common", "none"))
    for i, name in enumerate(("rare", "common")):
        alone = score_cells(probs[:, class_of == i], lists_of(truth[:, class_of == i]))
        np.testing.assert_allclose(cells.reliability(name).to_numpy(), alone.reliability().to_numpy(), rtol=1e-6)
        assert cells.calibration(name) == pytest.approx(alone.calibration())
        assert (cells.brier(name), cells.ece(name)) == pytest.approx((alone.brier(), alone.ece()))
    assert cells.reliability("none").is_empty()
    assert np.isnan([cells.brier("none"), cells.ece("none"), *cells.calibration("none")]).all()


def test_tss_by_hand_at_a_threshold_for_each_fold():
    """Fold 0 from .3, fold 1 from .7. Species 0: hits 1 of 2, false 1 of 2. Species 1 is present everywhere."""
    probs = np.array([[0.4, 0.9], [0.2, 0.9], [0.6, 0.9], [0.8, 0.9]])
    truth = Lists.from_rows([[0, 1], [1], [0, 1], [1]])
    thresholds = np.array([[0.3, 0.5], [0.7, 0.5]])
    cells = score_cells(probs, truth, thresholds_FS=thresholds, fold_of_row=np.array([0, 0, 1, 1]))
    assert cells.tss_S()[0] == pytest.approx(1 / 2 + 1 / 2 - 1)
    assert np.isnan(cells.tss_S()[1])


def test_blocks_of_rows_give_the_same_sums(calibrated, monkeypatch):
    probs, truth = calibrated
    whole = score_cells(probs, lists_of(truth))
    ranks = rank_scores(probs, lists_of(truth))
    monkeypatch.setattr(metric_blocks, "ROW_CELLS", 100)
    monkeypatch.setattr(metric_blocks, "COLUMN_CELLS", 1000)
    parts = score_cells(probs, lists_of(truth))
    np.testing.assert_allclose(parts.squared_error_S, whole.squared_error_S, rtol=1e-5)
    np.testing.assert_array_equal(parts.count_CM, whole.count_CM)
    again = rank_scores(probs, lists_of(truth))
    np.testing.assert_array_equal(again.auc_S, ranks.auc_S)
    assert again.top_k_accuracy == ranks.top_k_accuracy


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_memory_map_scores_as_the_array_does(calibrated, tmp_path, dtype, monkeypatch):
    probs, truth = calibrated
    monkeypatch.setattr(metric_blocks, "MAPPED_CELLS", 1500)
    mapped = np.memmap(tmp_path / "probs", dtype, "w+", shape=probs.shape)
    mapped[:] = probs
    mapped = np.memmap(tmp_path / "probs", dtype, "r", shape=probs.shape)
    array = np.array(mapped)
    np.testing.assert_array_equal(rank_scores(mapped, lists_of(truth)).ap_S, rank_scores(array, lists_of(truth)).ap_S)
    cells, same = score_cells(mapped[50:], lists_of(truth[50:])), score_cells(array[50:], lists_of(truth[50:]))
    np.testing.assert_array_equal(cells.squared_error_S, same.squared_error_S)
    private = np.memmap(tmp_path / "probs", dtype, "c", shape=probs.shape)
    private[0, 0] = 0.5
    rank_scores(private, lists_of(truth))
    assert private[0, 0] == 0.5  # what was changed in a private copy is not let go of


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_values_that_are_no_probabilities_are_refused(bad):
    with pytest.raises(TableError, match="among the probabilities of 2 surveys from row 0"):
        score_cells(np.array([[0.5, bad], [0.1, 0.2]]), Lists.from_rows([[0], [1]]))
    with pytest.raises(TableError, match="one or more surveys"):
        score_cells(np.zeros((0, 3)), Lists.from_rows([]))


def test_the_boyce_index_equals_windows_counted_one_by_one():
    rng = np.random.default_rng(2)
    scores = rng.beta(1, 5, 400)
    present = rng.random(400) < scores
    low, high = scores.min(), scores.max()
    width = (high - low) / 10
    ratios = []
    for start in np.linspace(low, high - width, 101):
        inside = (scores >= start) & (scores <= start + width + 1e-15)
        if inside.any():
            ratios.append(present[inside].sum() / inside.sum())
    kept = [r for i, r in enumerate(ratios) if i == 0 or r != ratios[i - 1]]
    expected = spearmanr(kept, np.arange(len(kept))).statistic
    assert boyce_index(scores, present) == pytest.approx(expected, abs=0.01)
    ranks = rank_scores(scores[:, None], lists_of(present[:, None]))
    assert ranks.boyce_S[0] == boyce_index(scores, present)


def test_the_boyce_index_is_undefined_for_few_presences_and_constant_scores():
    scores = np.linspace(0, 1, 50)
    assert np.isnan(boyce_index(scores, np.arange(50) < 9))
    assert np.isnan(boyce_index(np.ones(50), np.arange(50) < 20))
    assert np.isnan(boyce_index(scores, np.ones(50, bool)))


def test_a_ratio_is_resampled_with_its_own_denominator():
    """One survey in each of two blocks: 1/4 or 3/4 where one is drawn twice, else 4/8."""
    top, bottom = np.array([1, 3]), np.array([4, 4])
    assert ratio_interval(top, bottom, np.arange(2), np.random.default_rng(0)) == (0.25, 0.75)
    means = np.random.default_rng(1).random(40)
    same = ratio_interval(means, np.ones(40), np.arange(40) // 4, np.random.default_rng(3))
    assert same == bootstrap_interval(means, np.arange(40) // 4, np.random.default_rng(3))
    assert np.isnan(ratio_interval(np.zeros(2), np.zeros(2), np.arange(2), np.random.default_rng(0))).all()


def test_resampled_macro_f1_lies_about_macro_f1_though_most_species_are_rare():
    rng = np.random.default_rng(0)
    truth = rng.random((400, 300)) < rng.beta(0.3, 30, 300)
    predicted = truth & (rng.random((400, 300)) < 0.5) | (rng.random((400, 300)) < 0.005)
    blocks = np.arange(400) // 8
    f1_RS = resample_species_f1(lists_of(predicted), lists_of(truth), 300, blocks, rng, num_resamples=300)
    seen = truth.any(axis=0)
    assert (np.isfinite(f1_RS).all(axis=0) == seen).all()
    macro = score_sets(lists_of(predicted), lists_of(truth), 300).macro_f1
    low, high = np.quantile(f1_RS[:, seen].mean(axis=1), [0.025, 0.975])
    assert low < macro < high and high - low < 0.2
    assert np.isnan(resample_species_f1(lists_of(predicted), lists_of(truth), 300, np.zeros(400), rng)).all()
