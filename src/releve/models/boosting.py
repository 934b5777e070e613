"""Boosted trees for all species at once: each tree is grown on a sketch of the errors, its leaves hold all species."""

# B batch, N training rows, F features, T trees, J nodes, L leaves of all trees, K species that are modelled, S species
# D dimensions of the sketch

from __future__ import annotations

from typing import cast

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.models.trees import Grown, TableFeatures, TreesModel, node_tables

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
BLOCK_ROWS = 256


class BoostedModel(TreesModel):
    """Logits as a sum over trees, on top of each species' overall frequency."""

    leaf_TJ: Tensor
    step_LK: Tensor
    species_K: Tensor
    start_S: Tensor

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) float32 logits."""
        node_TB = self.leaves(batch)
        logits_BS = self.start_S.repeat(len(batch), 1)
        if len(self.species_K):  # torch refuses sums of nothing where it has several threads
            logits_BS[:, self.species_K] += functional.embedding_bag(
                self.leaf_TJ.gather(1, node_TB).T.contiguous(), self.step_LK, mode="sum"
            )
        return logits_BS


def fit_boosted_trees(
    gatherer: Gatherer, rows: NDArray[np.int64], statistics: Statistics, *, seed: int
) -> BoostedModel:
    """Return boosted trees fitted to the log-likelihood of the training rows.

    A tree of one species each would take hours for thousands. Here the splits of a tree are chosen on a random
    projection of the errors of all species, and its leaves take a Newton step for each.

    Parameters
    ----------
    gatherer, rows
        What gathers the training rows, and where they are.
    statistics
        Those of the training rows.
    seed
        Draws the projections and the columns that are tried.

    References
    ----------
    Friedman (2001), Greedy function approximation: a gradient boosting machine, doi:10.1214/aos/1013203451.
    Iosipoi & Vakhrushev (2022), SketchBoost: fast gradient boosted decision tree for multioutput problems,
    arXiv:2211.12858.
    """
    from sklearn.tree import DecisionTreeRegressor  # two seconds that only trees are worth

    labels = gatherer.store.labels.take(rows).to_csr(len(statistics.species_ids)).astype(np.float32)
    share_S = np.asarray(labels.mean(axis=0), np.float64).ravel()
    start_S = torch.logit(torch.from_numpy(share_S), eps=1e-6).float()
    kept = np.flatnonzero(np.asarray(labels.sum(axis=0)).ravel() >= MIN_PRESENCES)
    observed = labels[:, kept]
    rng = np.random.default_rng(seed)
    features = TableFeatures(statistics)
    features_NF = features.hide_facts(features.of(gatherer.batch(rows)), rng).numpy()
    logits_NK = start_S[kept].repeat(len(rows), 1)
    grown, steps, leaves, num_leaves = [], [torch.zeros(0, len(kept))], [], 0
    for _ in range(NUM_ROUNDS):
        mix_KD = rng.standard_normal((len(kept), SKETCH_SIZE), dtype=np.float32)
        sketch_ND = observed @ mix_KD
        for block in _blocks(len(rows)):
            sketch_ND[block] -= (torch.sigmoid(logits_NK[block]) @ torch.from_numpy(mix_KD)).numpy()
        tree = DecisionTreeRegressor(
            max_leaf_nodes=MAX_LEAVES,
            min_samples_leaf=MIN_ROWS,
            max_features=FEATURE_SHARE,
            random_state=int(rng.integers(2**31)),
        ).fit(features_NF, sketch_ND)
        found, leaf_N = np.unique(tree.apply(features_NF), return_inverse=True)
        step_LK = LEARNING_RATE * newton_steps(observed, logits_NK, leaf_N, len(found))
        for block in _blocks(len(rows)):
            logits_NK[block] += step_LK[torch.from_numpy(leaf_N[block])]
        place_J = torch.zeros(tree.tree_.node_count, dtype=torch.int64)
        place_J[found] = num_leaves + torch.arange(len(found))
        num_leaves += len(found)
        grown.append(tree.tree_)
        steps.append(step_LK)
        leaves.append(place_J)
    return BoostedModel(
        statistics,
        node_tables(cast("list[Grown]", grown))
        | {
            "leaf_TJ": nn.utils.rnn.pad_sequence(leaves, batch_first=True),
            "step_LK": torch.cat(steps),
            "species_K": torch.from_numpy(kept),
            "start_S": start_S,
        },
    ).eval()


def newton_steps(
    observed: scipy.sparse.csr_matrix, logits_NK: Tensor, leaf_N: NDArray[np.int64], num_leaves: int
) -> Tensor:
    """Return (leaves, K) the step of each leaf and species that maximises the penalised log-likelihood."""
    rows = np.arange(len(leaf_N))
    inside_LN = scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (leaf_N, rows)), (num_leaves, len(rows)))
    error_LK = torch.from_numpy((inside_LN @ observed).toarray())
    curvature_LK = torch.full_like(error_LK, PENALTY)
    for block in _blocks(len(leaf_N)):
        inside_LB = functional.one_hot(torch.from_numpy(leaf_N[block]), num_leaves).T.float()
        probs_BK = torch.sigmoid(logits_NK[block])
        error_LK -= inside_LB @ probs_BK
        curvature_LK += inside_LB @ (probs_BK * (1 - probs_BK))
    return error_LK / curvature_LK


def _blocks(num_rows: int) -> list[slice]:
    return [slice(first, first + BLOCK_ROWS) for first in range(0, num_rows, BLOCK_ROWS)]
