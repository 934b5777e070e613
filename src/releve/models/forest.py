"""A forest of extremely randomised trees as a member: another kind of model, wrong in other places than a network."""

# B batch, N training rows, F features, T trees, J nodes, S species

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics, TableStatistics
from releve.errors import ConfigError
from releve.lists import Lists
from releve.models.config import ForestConfig
from releve.models.tables import QuantileScore

MISSING_SCORE = -4.0
"""Stands for a missing value: below every score, so that one split sets it apart."""


PRIOR_ROWS = 30
"""The overall frequency weighs as much as one row in this many, so that no probability is 0."""


class ForestModel(nn.Module):
    """Logits by the labels of the training rows that share a leaf with a survey, averaged over trees.

    Splits are chosen on the leading components of the label matrix: choosing them on thousands of species takes hours
    and finds much the same trees. What is predicted are the labels themselves.

    References
    ----------
    Geurts, Ernst & Wehenkel (2006), Extremely randomized trees, doi:10.1007/s10994-006-6226-1.
    """

    children_TJ2: Tensor
    feature_TJ: Tensor
    threshold_TJ: Tensor
    leaf_TN: Tensor
    indptr: Tensor
    indices: Tensor

    def __init__(self, statistics: Statistics, num_trees: int, num_nodes: int, num_rows: int, num_labels: int) -> None:
        """Make an empty forest of this size; :func:`fit_forest` or a state fills it."""
        super().__init__()
        self.statistics = statistics
        self.modalities = tuple(statistics.tables)
        self.features = nn.ModuleList(_TableFeatures(table) for table in statistics.tables.values())
        self.register_buffer("children_TJ2", torch.zeros(num_trees, num_nodes, 2, dtype=torch.int32))
        self.register_buffer("feature_TJ", torch.zeros(num_trees, num_nodes, dtype=torch.int32))
        self.register_buffer("threshold_TJ", torch.zeros(num_trees, num_nodes, dtype=torch.float64))
        self.register_buffer("leaf_TN", torch.zeros(num_trees, num_rows, dtype=torch.int32))
        self.register_buffer("indptr", torch.zeros(num_rows + 1, dtype=torch.int64))
        self.register_buffer("indices", torch.zeros(num_labels, dtype=torch.int32))

    def table_features(self, batch: Batch) -> Tensor:
        """Return (B, F) float32 features; a survey without a table has all of its columns missing."""
        parts = []
        for name, features in zip(self.modalities, self.features, strict=True):
            num_columns = len(self.statistics.tables[name].columns)
            values = torch.full((len(batch), num_columns), torch.nan)
            if name in batch.values:
                values[batch.places[name].cpu()] = batch.values[name].cpu()
            parts.append(features(values))
        return torch.cat(parts, dim=1)

    def leaves(self, features_BF: Tensor) -> Tensor:
        """Return (T, B) the leaf of each row in each tree."""
        num_trees, rows = len(self.feature_TJ), torch.arange(len(features_BF))
        trees = torch.arange(num_trees)[:, None]
        node_TB = torch.zeros(num_trees, len(features_BF), dtype=torch.int64)
        while True:
            feature = self.feature_TJ[trees, node_TB].long()
            right = features_BF[rows, feature] > self.threshold_TJ[trees, node_TB]
            child = self.children_TJ2[trees, node_TB, right.long()].long()
            if bool((child < 0).all()):  # a leaf has no children
                return node_TB
            node_TB = torch.where(child < 0, node_TB, child)

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

    def mates(self, leaf_TB: NDArray[np.int64]) -> sparse.csr_matrix:
        """Return (B, N) float32: the share of trees' leaves that each training row has in each row's prediction."""
        order_TN, start_TJ = self.rows_by_leaf
        (num_trees, num_rows), num_predicted = order_TN.shape, leaf_TB.shape[1]
        pairs, weights = [], []
        for leaf_B, order_N, start_J in zip(leaf_TB, order_TN, start_TJ, strict=True):
            first_B, length_B = start_J[leaf_B], start_J[leaf_B + 1] - start_J[leaf_B]
            within = np.arange(length_B.sum()) - np.repeat(np.cumsum(length_B) - length_B, length_B)
            mates = order_N[np.repeat(first_B, length_B) + within]
            pairs.append(np.repeat(np.arange(num_predicted) * num_rows, length_B) + mates)
            weights.append(np.repeat(1 / length_B, length_B))
        found, places = np.unique(np.concatenate(pairs), return_inverse=True)
        total, last = np.zeros(len(found), np.float32), 0
        for weight in weights:  # no pair is twice in one tree
            last += len(weight)
            total[places[last - len(weight) : last]] += weight
        indptr = np.searchsorted(found, np.arange(num_predicted + 1) * num_rows)
        return sparse.csr_matrix((total / num_trees, found % num_rows, indptr), (num_predicted, num_rows))

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) logits."""
        labels, share_S = self.labels
        probs = (self.mates(self.leaves(self.table_features(batch)).numpy()) @ labels).toarray()
        probs = (PRIOR_ROWS * probs + share_S) / (PRIOR_ROWS + 1)
        return torch.logit(torch.from_numpy(probs.astype(np.float32)), eps=1e-6)


class _TableFeatures(nn.Module):
    """Numeric columns by quantile scores, categories as columns of 0 and 1."""

    def __init__(self, table: TableStatistics) -> None:
        super().__init__()
        self.numeric = [i for i, name in enumerate(table.columns) if name in table.quantiles]
        self.categorical = [i for i, name in enumerate(table.columns) if name in table.codes]
        self.score = QuantileScore([table.quantiles[table.columns[i]] for i in self.numeric])
        codes = [torch.tensor(table.codes[table.columns[i]], dtype=torch.float32) for i in self.categorical]
        self.codes = codes

    def forward(self, values_BK: Tensor) -> Tensor:
        scores = torch.nan_to_num(self.score(values_BK[:, self.numeric]), nan=MISSING_SCORE)
        matches = [
            (values_BK[:, i, None] == codes).float() for i, codes in zip(self.categorical, self.codes, strict=True)
        ]
        return torch.cat([scores, *matches], dim=1)


def fit_forest(
    gatherer: Gatherer, train_rows: NDArray[np.int64], statistics: Statistics, config: ForestConfig, *, seed: int
) -> ForestModel:
    """Return a forest grown on the training rows.

    Raises
    ------
    ConfigError
        If the model has no table modality.
    """
    from sklearn.decomposition import TruncatedSVD  # two seconds that only forests are worth
    from sklearn.ensemble import ExtraTreesRegressor

    if not statistics.tables:
        raise ConfigError(
            "a forest needs tables, and model.modalities has none of them",
            expected="covariates, survey or location among the modalities",
            action="Add one, or set train.forests_per_fold to 0",
        )
    labels = gatherer.store.labels.take(train_rows)
    table = labels.to_csr(len(statistics.species_ids)).astype(np.float32)
    empty = ForestModel(statistics, 0, 0, 0, 0)
    features = empty.table_features(gatherer.batch(train_rows))
    num_components = min(config.num_components, min(table.shape) - 1)
    targets = (
        TruncatedSVD(num_components, random_state=seed).fit_transform(table) if num_components else table.toarray()
    )
    trees = ExtraTreesRegressor(
        config.num_trees,
        min_samples_leaf=config.min_rows,
        max_features=config.feature_share,
        n_jobs=-1,
        random_state=seed,
    ).fit(features.numpy(), targets)
    grown = [tree.tree_ for tree in trees.estimators_]
    num_nodes = max(tree.node_count for tree in grown)
    model = ForestModel(statistics, len(grown), num_nodes, len(train_rows), len(labels.indices))
    for t, tree in enumerate(grown):
        children = np.stack([tree.children_left, tree.children_right], axis=1)
        model.children_TJ2[t, : tree.node_count] = torch.from_numpy(children.astype(np.int32))
        model.feature_TJ[t, : tree.node_count] = torch.from_numpy(np.maximum(tree.feature, 0).astype(np.int32))
        model.threshold_TJ[t, : tree.node_count] = torch.from_numpy(tree.threshold.astype(np.float64))
    model.leaf_TN.copy_(model.leaves(features))
    model.indptr.copy_(torch.from_numpy(labels.indptr))
    model.indices.copy_(torch.from_numpy(labels.indices))
    return model.eval()


def load_forest(state: dict[str, Tensor], statistics: Statistics) -> ForestModel:
    """Return a forest from its saved tensors."""
    num_trees, num_nodes = cast(tuple[int, int], tuple(state["feature_TJ"].shape))
    model = ForestModel(statistics, num_trees, num_nodes, state["leaf_TN"].shape[1], len(state["indices"]))
    model.load_state_dict(state)
    return model.eval()
