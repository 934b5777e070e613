"""A forest of extremely randomised trees as a member: another kind of model, wrong in other places than a network."""

# B batch, N training rows, F features, T trees, J nodes, S species

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.lists import Lists
from releve.models.config import ForestConfig
from releve.models.trees import Grown, TableFeatures, TreesModel, node_tables

PRIOR_ROWS = 30
"""The overall frequency weighs as much as one row in this many, so that no probability is 0."""


class ForestModel(TreesModel):
    """Logits by the labels of the training rows that share a leaf with a survey, averaged over trees.

    Splits are chosen on the leading components of the label matrix: choosing them on thousands of species takes hours
    and finds much the same trees. What is predicted are the labels themselves.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """

    leaf_TN: Tensor
    indptr: Tensor
    indices: Tensor

    @cached_property
    def rows_by_leaf(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(T, N) training rows of each tree, leaf by leaf, and (T, J + 1) where each node's begin; sorted once."""
        leaf_TN, num_nodes = self.leaf_TN.numpy(), self.feature_TJ.shape[1]
        order_TN = np.argsort(leaf_TN, axis=1, kind="stable").astype(np.int32)
        counts = [np.bincount(leaf_N, minlength=num_nodes) for leaf_N in leaf_TN]
        return order_TN, np.cumsum(np.pad(counts, ((0, 0), (1, 0))), axis=1)

    @cached_property
    def labels(self) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
        """(N, S) float32 labels of the training rows, and each species' share of these rows."""
        labels = Lists(self.indptr.numpy(), self.indices.numpy()).to_csr(len(self.statistics.species_ids))
        return labels.astype(np.float32), np.asarray(labels.mean(axis=0)).ravel()

    def means(self, leaf_TB: NDArray[np.int64]) -> sparse.csr_matrix:
        """Return (B, S) float32: the mean over trees of the share of a leaf's training rows that have each species.

        A leaf is worked out once, however many rows are in it: where nothing grows, leaves hold thousands.
        """
        order_TN, start_TJ = self.rows_by_leaf
        (num_trees, num_rows), num_predicted, labels = order_TN.shape, leaf_TB.shape[1], self.labels[0]
        members, lengths, places, num_met = [], [], [], 0
        for leaf_B, order_N, start_J in zip(leaf_TB, order_TN, start_TJ, strict=True):
            met, place_B = np.unique(leaf_B, return_inverse=True)
            first, length = start_J[met], start_J[met + 1] - start_J[met]
            within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
            members.append(order_N[np.repeat(first, length) + within])
            lengths.append(length)
            places.append(num_met + place_B)
            num_met += len(met)
        length = np.concatenate(lengths)
        ends, share = np.append(0, np.cumsum(length)), np.repeat(1 / length, length).astype(np.float32)
        of_leaf = sparse.csr_matrix((share, np.concatenate(members), ends), (num_met, num_rows)) @ labels
        weight = np.full(num_predicted * num_trees, 1 / num_trees, np.float32)
        rows = np.arange(num_predicted + 1) * num_trees
        return sparse.csr_matrix((weight, np.stack(places, axis=1).ravel(), rows), (num_predicted, num_met)) @ of_leaf

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) logits."""
        probs = self.means(self.leaves(batch).numpy()).toarray()
        probs = (PRIOR_ROWS * probs + self.labels[1]) / (PRIOR_ROWS + 1)
        return torch.logit(torch.from_numpy(probs.astype(np.float32)), eps=1e-6)


def fit_forest(
    gatherer: Gatherer, train_rows: NDArray[np.int64], statistics: Statistics, *, config: ForestConfig, seed: int
) -> ForestModel:
    """Return a forest grown on the training rows.

    Parameters
    ----------
    gatherer, train_rows
        What gathers the training rows, and where they are.
    statistics
        Those of the training rows.
    config
        The trees.
    seed
        Draws columns and thresholds.
    """
    from sklearn.decomposition import TruncatedSVD  # two seconds that only forests are worth
    from sklearn.tree import ExtraTreeRegressor

    labels = gatherer.store.labels.take(train_rows)
    table = labels.to_csr(len(statistics.species_ids)).astype(np.float32)
    features = TableFeatures(statistics)
    features_NF = features.of(gatherer.batch(train_rows))
    num_components = min(config.num_components, min(table.shape) - 1)
    targets = (
        TruncatedSVD(num_components, random_state=seed).fit_transform(table) if num_components else table.toarray()
    )

    def grow(number: int) -> tuple[Grown, NDArray[np.int64]]:
        rng = np.random.default_rng([seed, number])
        seen_NF = features.hide_facts(features_NF, rng).numpy()
        tree = ExtraTreeRegressor(
            min_samples_leaf=config.min_rows,
            max_features=config.feature_share,
            random_state=int(rng.integers(2**31)),
        ).fit(seen_NF, targets)
        return tree.tree_, tree.apply(seen_NF)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # scikit-learn lets go of Python's lock
        grown, leaves = zip(*pool.map(grow, range(config.num_trees)), strict=True)
    tensors = node_tables(list(grown)) | {
        "leaf_TN": torch.from_numpy(np.stack(leaves)).int(),
        "indptr": torch.from_numpy(labels.indptr),
        "indices": torch.from_numpy(labels.indices),
    }
    return ForestModel(statistics, tensors).eval()
