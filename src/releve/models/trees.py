"""What kinds of member made of trees share: the columns that trees see, and trees as tables of nodes."""

# B batch, F features, T trees, J nodes

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from releve.data.gather import Batch
from releve.data.statistics import Statistics
from releve.models.fitted import FittedModel
from releve.models.tables import QuantileScore

HIDDEN_SHARE = 0.1
"""Training rows whose facts of the survey are hidden from a tree, so that it has an answer where they are unknown."""


class TableFeatures:
    """Turns the tables of a batch into the columns that trees split on.

    A number is the normal score of its rank among the training rows; a missing one is taken for the median, where the
    score is 0. A category is one column, the place of its code from 1 on, and 0 where it is missing or was not known in
    training: trees that try a few columns at a split find it sooner there than in as many columns as there are codes.
    """

    def __init__(self, statistics: Statistics) -> None:
        """Look up quantiles and codes of the training rows."""
        self.tables = statistics.tables
        self.scores = {
            name: QuantileScore([table.quantiles[column] for column in table.columns if column in table.quantiles])
            for name, table in self.tables.items()
        }

    @property
    def columns(self) -> list[str]:
        """(F,) names, ``modality.column``: of each table the numbers, then the categories."""
        return [
            f"{name}.{column}"
            for name, table in self.tables.items()
            for known in (table.quantiles, table.codes)
            for column in table.columns
            if column in known
        ]

    def of(self, batch: Batch) -> Tensor:
        """Return (B, F) float32 features, on the CPU; a survey without a table has all of its columns missing."""
        parts = []
        for name, table in self.tables.items():
            values_BK = torch.full((len(batch), len(table.columns)), torch.nan)
            if name in batch.values:
                values_BK[batch.places[name].cpu()] = batch.values[name].cpu()
            numbers = [i for i, column in enumerate(table.columns) if column in table.quantiles]
            parts.append(torch.nan_to_num(self.scores[name](values_BK[:, numbers]), nan=0.0))
            for i, column in enumerate(table.columns):
                if column in table.codes:
                    codes = torch.tensor(table.codes[column], dtype=torch.float32)
                    matches = values_BK[:, i, None] == codes
                    parts.append((matches * torch.arange(1.0, len(codes) + 1)).sum(dim=1, keepdim=True))
        return torch.cat(parts, dim=1)

    def hide_facts(self, features_NF: Tensor, rng: np.random.Generator) -> Tensor:
        """Return features in which a share of the rows lack all facts of the survey: its area, year, country, region.

        Trees cut at these facts early and often. One that never saw a row without them takes a plot of unknown area for
        one of the smallest, and a new country for none that it knows.
        """
        facts_F = torch.tensor([column.startswith("survey.") for column in self.columns])
        hidden_N = torch.from_numpy(rng.random(len(features_NF)) < HIDDEN_SHARE)
        return features_NF.masked_fill(hidden_N[:, None] & facts_F, 0.0)


class Grown(Protocol):
    """A tree as scikit-learn keeps it."""

    node_count: int
    children_left: Any
    children_right: Any
    feature: Any
    threshold: Any


def node_tables(grown: list[Grown]) -> dict[str, Tensor]:
    """Return trees as tensors: the children of each node (-1: a leaf), the column it asks for and the threshold."""
    shape = len(grown), max(tree.node_count for tree in grown)
    children_TJ2 = torch.full((*shape, 2), -1, dtype=torch.int32)
    feature_TJ, threshold_TJ = torch.zeros(shape, dtype=torch.int32), torch.zeros(shape, dtype=torch.float64)
    for t, tree in enumerate(grown):
        nodes = slice(tree.node_count)
        children_TJ2[t, nodes, 0] = torch.from_numpy(tree.children_left).int()
        children_TJ2[t, nodes, 1] = torch.from_numpy(tree.children_right).int()
        feature_TJ[t, nodes] = torch.from_numpy(tree.feature).clamp(min=0).int()
        threshold_TJ[t, nodes] = torch.from_numpy(tree.threshold)
    return {"children_TJ2": children_TJ2, "feature_TJ": feature_TJ, "threshold_TJ": threshold_TJ}


class TreesModel(FittedModel[TableFeatures]):
    """A member made of trees: what they were fitted on, and their tables of nodes."""

    children_TJ2: Tensor
    feature_TJ: Tensor
    threshold_TJ: Tensor

    def __init__(self, statistics: Statistics, tensors: dict[str, Tensor]) -> None:
        """Make a model of what was fitted, or of what was saved."""
        super().__init__(statistics, TableFeatures(statistics), tensors)

    def leaves(self, batch: Batch) -> Tensor:
        """Return (T, B) the leaf of each row in each tree."""
        return find_leaves(self.features.of(batch), self.children_TJ2, self.feature_TJ, self.threshold_TJ)


def find_leaves(features_BF: Tensor, children_TJ2: Tensor, feature_TJ: Tensor, threshold_TJ: Tensor) -> Tensor:
    """Return (T, B) the node of each tree that each row ends in."""
    trees, rows = torch.arange(len(feature_TJ))[:, None], torch.arange(len(features_BF))
    node_TB = torch.zeros(len(feature_TJ), len(features_BF), dtype=torch.int64)
    while True:
        right = features_BF[rows, feature_TJ[trees, node_TB].long()] > threshold_TJ[trees, node_TB]
        child = children_TJ2[trees, node_TB, right.long()].long()
        if bool((child < 0).all()):
            return node_TB
        node_TB = torch.where(child < 0, node_TB, child)
