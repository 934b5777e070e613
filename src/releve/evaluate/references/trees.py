"""The kinds of member that are made of trees as reference models, by the same code: what they would find alone."""

# M rows to predict, S species

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from releve.evaluate.references.design import Design
from releve.evaluate.references.shares import predict_frequency
from releve.models.boosting import fit_boosted_trees
from releve.models.config import ForestConfig
from releve.models.forest import fit_forest
from releve.models.kinds import MemberModel

CONFIG = ForestConfig(num_trees=200, min_rows=3, feature_share=0.3)
BLOCK_ROWS = 512


def predict_extra_trees(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities by extremely randomised trees (:mod:`releve.models.forest`)."""
    return _predict(design, seed, lambda *known: fit_forest(*known, config=CONFIG, seed=seed))


def predict_boosted_trees(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities by boosted trees (:mod:`releve.models.boosting`)."""
    return _predict(design, seed, lambda *known: fit_boosted_trees(*known, seed=seed))


def _predict(design: Design, seed: int, fit: Callable[..., MemberModel]) -> NDArray[np.float32]:
    if design.statistics is None:
        return predict_frequency(design, seed)
    model = fit(design.gatherer(design.store), design.train, design.statistics)
    theirs, rows = design.gatherer(design.target), design.rows
    blocks = [model(theirs.batch(rows[i : i + BLOCK_ROWS])) for i in range(0, len(rows), BLOCK_ROWS)]
    return torch.sigmoid(torch.cat(blocks)).numpy()
