"""Boosted trees for all species at once: each tree is grown on a sketch of the errors, its leaves hold all species."""

# N training rows, M rows to predict, B rows of a block, S species, L leaves, D dimensions of the sketch

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.tree import DecisionTreeRegressor

from releve.evaluate.references.design import Design
from releve.evaluate.references.shares import predict_frequency

NUM_ROUNDS = 100
LEARNING_RATE = 0.15
MAX_LEAVES = 24
MIN_ROWS = 10
FEATURE_SHARE = 0.3
SKETCH_SIZE = 10
PENALTY = 2.0
"""Added to the curvature of a leaf, so that a single presence of a rare species moves it little."""
MIN_PRESENCES = 3
"""Species with fewer training rows keep their overall frequency."""
BLOCK_ROWS = 2000


def predict_boosted_trees(design: Design, seed: int) -> NDArray[np.float32]:
    """Return (M, S) probabilities by gradient boosting of the log-likelihood on the columns of all tables.

    A tree of one species each would take hours for thousands. Here the splits of a tree are chosen on a random
    projection of the errors of all species, and its leaves take a Newton step for each.

    References
    ----------
    Friedman (2001), Greedy function approximation: a gradient boosting machine, doi:10.1214/aos/1013203451.
    Iosipoi & Vakhrushev (2022), SketchBoost: fast gradient boosted decision tree for multioutput problems,
    arXiv:2211.12858.
    """
    labels = design.labels
    probs = predict_frequency(design, seed)
    kept = np.flatnonzero(np.asarray(labels.sum(axis=0)).ravel() >= MIN_PRESENCES)
    if not len(kept):
        return probs
    known, asked = design.coded()
    observed = labels[:, kept]
    share_S = np.asarray(observed.mean(axis=0)).ravel()
    start_S = logit(np.clip(share_S, 1e-6, 1 - 1e-6)).astype(np.float32)
    logits_NS, logits_MS = np.tile(start_S, (len(known), 1)), np.tile(start_S, (len(asked), 1))
    rng = np.random.default_rng(seed)
    for _ in range(NUM_ROUNDS):
        mix_SD = rng.standard_normal((len(kept), SKETCH_SIZE), dtype=np.float32)
        sketch_ND = np.empty((len(known), SKETCH_SIZE), np.float32)
        for block in _blocks(len(known)):
            sketch_ND[block] = (observed[block] @ mix_SD) - expit(logits_NS[block]) @ mix_SD
        tree = DecisionTreeRegressor(
            max_leaf_nodes=MAX_LEAVES,
            min_samples_leaf=MIN_ROWS,
            max_features=FEATURE_SHARE,
            random_state=int(rng.integers(2**31)),
        ).fit(known, sketch_ND)
        leaf_N, leaf_M = tree.apply(known), tree.apply(asked)
        step_LS = LEARNING_RATE * _newton_steps(observed, logits_NS, leaf_N, tree.tree_.node_count)
        for block in _blocks(len(known)):
            logits_NS[block] += step_LS[leaf_N[block]]
        for block in _blocks(len(asked)):
            logits_MS[block] += step_LS[leaf_M[block]]
    probs[:, kept] = expit(logits_MS, out=logits_MS)
    return probs


def _newton_steps(
    observed: scipy.sparse.csr_matrix, logits_NS: NDArray[np.float32], leaf_N: NDArray[np.int64], num_leaves: int
) -> NDArray[np.float32]:
    """Return (L, S) the step of each leaf and species that maximises the penalised log-likelihood."""
    shape = (num_leaves, observed.shape[1])
    error_LS, curvature_LS = np.zeros(shape, np.float32), np.full(shape, PENALTY, np.float32)
    for block in _blocks(len(leaf_N)):
        leaf_B = leaf_N[block]
        cells = (np.ones(len(leaf_B), np.float32), (leaf_B, np.arange(len(leaf_B))))
        member_LB = scipy.sparse.csr_matrix(cells, (num_leaves, len(leaf_B)))
        probs_BS = expit(logits_NS[block])
        error_LS += (member_LB @ observed[block]).toarray() - member_LB @ probs_BS
        curvature_LS += member_LB @ (probs_BS * (1 - probs_BS))
    return np.divide(error_LS, curvature_LS, dtype=np.float32)


def _blocks(num_rows: int) -> list[slice]:
    return [slice(first, first + BLOCK_ROWS) for first in range(0, num_rows, BLOCK_ROWS)]
