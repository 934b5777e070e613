"""The forest of :mod:`releve.models.forest` on covariates and place alone, as a reference model."""

# M rows to predict, S species

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.models.config import ForestConfig
from releve.models.forest import fit_forest
from releve.store.read import Store

CONFIG = ForestConfig(num_trees=200, min_rows=3, feature_share=0.3)
BLOCK_ROWS = 512


def predict_extra_trees(
    store: Store, train: NDArray[np.int64], target: Store, rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return (M, S) probabilities by extremely randomised trees on covariates and coordinates.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """
    statistics = measure_statistics(store, train, ("covariates", "location"), rng=np.random.default_rng(seed))
    gatherer = Gatherer(store, statistics.modalities, statistics.categories)
    forest = fit_forest(gatherer, train, statistics, CONFIG, seed=seed)
    table = statistics.tables.get("covariates")
    theirs = Gatherer(target, statistics.modalities, statistics.categories, table.columns if table else None)
    blocks = [forest(theirs.batch(rows[i : i + BLOCK_ROWS])) for i in range(0, len(rows), BLOCK_ROWS)]
    return torch.sigmoid(torch.cat(blocks)).numpy()
