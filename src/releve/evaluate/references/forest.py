"""The forest of :mod:`releve.models.forest` as a reference model."""

# M rows to predict, S species

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from releve.evaluate.references.design import Design
from releve.evaluate.references.shares import predict_frequency
from releve.models.config import ForestConfig
from releve.models.forest import fit_forest

CONFIG = ForestConfig(num_trees=200, min_rows=3, feature_share=0.3)
BLOCK_ROWS = 512


def predict_extra_trees(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities by extremely randomised trees on the columns of all tables.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """
    if design.statistics is None:
        return predict_frequency(design, seed)
    forest = fit_forest(design.gatherer(design.store), design.train, design.statistics, CONFIG, seed=seed)
    theirs, rows = design.gatherer(design.target), design.rows
    blocks = [forest(theirs.batch(rows[i : i + BLOCK_ROWS])) for i in range(0, len(rows), BLOCK_ROWS)]
    return torch.sigmoid(torch.cat(blocks)).numpy()
