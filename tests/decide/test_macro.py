"""The rule for rare species: its limits, its first-order claim, and what it trades on drawn truths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from releve.decide.expected_f1 import expected_f1_sets
from releve.decide.macro import MacroSetting, expected_f1_macro_sets, fit_macro
from releve.errors import ConfigError, TableError
from releve.lists import Lists
from releve.metrics.sets import score_sets


def world(num_surveys=1200, num_species=120, seed=0):
    """Calibrated probabilities, most species rare, and sets drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (num_surveys, num_species)) + np.linspace(0, -7, num_species)
    probs = 1 / (1 + np.exp(-logits))
    rows, species = np.nonzero(rng.random(probs.shape) < probs)
    return probs, Lists.from_pairs(rows, species, num_surveys)


def same(one, other):
    return one.indices.tolist() == other.indices.tolist() and one.indptr.tolist() == other.indptr.tolist()


def test_without_weight_the_lists_are_those_of_expected_f1_even_among_ties():
    probs, _ = world()
    tied = np.round(probs, 2)
    for table in (probs, tied, np.full((5, 8), 0.1)):
        assert same(expected_f1_macro_sets(table, fit_macro(table, 0.0)), expected_f1_sets(table))


def test_on_new_surveys_macro_f1_rises_and_sf1_falls_with_the_weight():
    fit, (probs, truth) = world(seed=1)[0], world(seed=2)
    scores = [
        score_sets(expected_f1_macro_sets(probs, fit_macro(fit, weight)), truth, 120) for weight in (0, 0.1, 0.5, 2)
    ]
    macro, sample = [s.macro_f1 for s in scores], [s.sample_f1 for s in scores]
    assert macro == sorted(macro)
    assert sample == sorted(sample, reverse=True)
    assert macro[1] > macro[0] + 0.03
    assert sample[1] > sample[0] - 0.02
    total = [m + s for m, s in zip(macro, sample, strict=True)]
    assert total[2] > total[0]  # what it is for


def test_lists_hold_the_expected_f1_lists_and_a_survey_does_not_depend_on_the_others():
    probs, _ = world()
    setting = fit_macro(probs, 0.3)
    lists, plain = expected_f1_macro_sets(probs, setting), expected_f1_sets(probs)
    assert (lists.lengths() >= plain.lengths()).all()
    assert np.isin(plain.surveys() * 120 + plain.indices, lists.surveys() * 120 + lists.indices).all()
    some = np.array([7, 900, 3])
    assert same(expected_f1_macro_sets(probs[some], setting), lists.take(some))


def test_a_species_joins_where_its_gain_outweighs_the_surveys_loss_by_hand():
    """A list of one, p = .8 of 1 expected: size 2. Species 1 costs 2 (.2 - .8) / 2 = -.6 and brings g (.4 - .1)."""
    probs = np.array([[0.8, 0.2, 0.0]])
    assert expected_f1_sets(probs).row(0).tolist() == [0]
    for gain, listed in ((1.99, [0]), (2.01, [0, 1])):
        setting = MacroSetting(f1=(0.8, 0.1, 0.1), gain=(0.0, gain, gain))
        assert expected_f1_macro_sets(probs, setting).row(0).tolist() == listed


def test_the_constants_are_those_of_the_lists_they_make():
    probs, _ = world()
    setting = fit_macro(probs, 0.2)
    listed = expected_f1_macro_sets(probs, setting).to_csr(120).toarray()
    f1 = 2 * (listed * probs).sum(axis=0) / (listed.sum(axis=0) + probs.sum(axis=0))
    share = (listed.sum(axis=0) + probs.sum(axis=0)) / len(probs)
    np.testing.assert_allclose(setting.f1, f1, atol=0.02)
    np.testing.assert_allclose(
        np.array(setting.gain) * 120 * share, 0.2, rtol=0.25
    )  # a rare species is listed on whole surveys


def test_blocks_of_rows_and_tensors_give_the_same(monkeypatch):
    probs, _ = world(num_surveys=100)
    before = fit_macro(probs, 0.2)
    lists = expected_f1_macro_sets(probs, before)
    monkeypatch.setattr("releve.decide.blocks.BLOCK_CELLS", 700)
    after = fit_macro(torch.from_numpy(probs), 0.2)
    np.testing.assert_allclose(after.f1, before.f1)
    np.testing.assert_allclose(after.gain, before.gain)
    assert same(expected_f1_macro_sets(probs, after), lists)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="macro_weight is -1"):
        fit_macro(np.zeros((1, 2)), -1)
    with pytest.raises(ConfigError, match="macro_weight is nan"):
        fit_macro(np.zeros((1, 2)), float("nan"))
    with pytest.raises(TableError, match="no survey"):
        fit_macro(np.zeros((0, 2)), 0.1)
    with pytest.raises(TableError, match="1 NaN"):
        fit_macro(np.array([[0.1, np.nan]]), 0.1)
    with pytest.raises(TableError, match=r"3 species.*the 2 that"):
        expected_f1_macro_sets(np.zeros((1, 3)), MacroSetting((0.0, 0.0), (0.0, 0.0)))


@pytest.mark.gpu
def test_probabilities_on_a_gpu_give_the_lists_of_the_cpu():
    probs, _ = world(num_surveys=200)
    setting, there = fit_macro(probs, 0.3), torch.from_numpy(probs).cuda()
    np.testing.assert_allclose(fit_macro(there, 0.3).f1, setting.f1)
    assert same(expected_f1_macro_sets(there, setting), expected_f1_macro_sets(probs, setting))
