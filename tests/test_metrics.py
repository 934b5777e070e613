"""Metrics by hand, against scikit-learn, and against their invariants."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from releve.errors import TableError
from releve.metrics import Lists, bootstrap_interval, rank_scores, score_sets


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
    for value, function, average in [
        (scores.sample_f1, f1_score, "samples"),
        (scores.micro_f1, f1_score, "micro"),
        (scores.precision, precision_score, "samples"),
        (scores.recall, recall_score, "samples"),
        (scores.jaccard, jaccard_score, "samples"),
    ]:
        assert value == pytest.approx(function(truth, predicted, average=average, zero_division=0), abs=1e-12)
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


def test_only_empty_sets_score_zero():
    scores = score_sets(Lists.from_rows([[]]), Lists.from_rows([[]]), 3)
    assert (scores.sample_f1, scores.micro_f1, scores.macro_f1, scores.jaccard) == (0, 0, 0, 0)


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
