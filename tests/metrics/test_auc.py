"""Differences in AUC: scikit-learn's values, and intervals that know what blocks say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from releve.lists import Lists
from releve.metrics.auc import auc_difference


def tables(seed: int = 0, num: int = 300, num_species: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a good and a poor model, with ties, and what grows there; the last species nowhere."""
    rng = np.random.default_rng(seed)
    warmth = rng.normal(size=(num, num_species))
    present = rng.random((num, num_species)) < 1 / (1 + np.exp(1 - 2 * warmth))
    present[:, -1] = False
    good = np.round(warmth + rng.normal(size=warmth.shape) * 0.5, 1)
    poor = np.round(warmth + rng.normal(size=warmth.shape) * 3, 1)
    return good, poor, present


def test_the_gain_is_the_difference_of_scikit_learns_areas_within_folds() -> None:
    good, poor, present = tables()
    folds = np.arange(300) % 3
    truth = Lists.from_rows([np.flatnonzero(row).tolist() for row in present])
    found = auc_difference(good, poor, truth, folds, np.arange(300) // 10, np.random.default_rng(1))
    areas = [
        [np.mean([roc_auc_score(present[folds == f, s], table[folds == f, s]) for f in range(3)]) for s in range(3)]
        for table in (good, poor)
    ]
    assert found.gain == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]), abs=1e-12)
    assert 0 < found.low < found.gain < found.high


def test_a_resample_is_the_area_of_the_rows_repeated() -> None:
    """With one resample the interval is that resample: the rows of each block taken as often as it was drawn."""
    good, poor, present = tables(3, 60)
    truth = Lists.from_rows([np.flatnonzero(row).tolist() for row in present])
    blocks, folds = np.arange(60) // 12, np.zeros(60)
    found = auc_difference(good, poor, truth, folds, blocks, np.random.default_rng(5), num_resamples=1)
    drawn = np.random.default_rng(5).multinomial(5, np.full(5, 0.2), 1)[0]
    rows = np.repeat(np.arange(60), drawn[blocks])
    expected = np.mean(
        [
            roc_auc_score(present[rows, s], good[rows, s]) - roc_auc_score(present[rows, s], poor[rows, s])
            for s in range(3)
        ]
    )
    assert found.low == pytest.approx(expected, abs=1e-12) and found.low == found.high


def test_equal_models_gain_nothing_and_undefined_ones_say_so() -> None:
    good, _, present = tables()
    truth = Lists.from_rows([np.flatnonzero(row).tolist() for row in present])
    folds, blocks, rng = np.zeros(300), np.arange(300) // 10, np.random.default_rng(0)
    assert auc_difference(good, good, truth, folds, blocks, rng) == (0, 0, 0)
    alone = auc_difference(good, -good, truth, folds, np.zeros(300, int), rng)
    assert alone.gain > 0 and np.isnan(alone.low)
    nothing = auc_difference(good, -good, Lists.from_rows([[]] * 300), folds, blocks, rng)
    assert np.isnan(nothing).all()
