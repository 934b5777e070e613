"""What kinds of member made of trees share: the columns that trees see, and trees as tables of nodes."""

# B batch, F features, T trees, J nodes

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from releve.data.gather import Batch
from releve.data.statistics import Statistics
from releve.models.tables import QuantileScore

MISSING_SCORE = -4.0
"""Stands for a missing number where cuts are random: below every score, so that one cut sets it apart."""

HIDDEN_SHARE = 0.1
"""Training rows whose facts of the survey are hidden from a tree, so that it has an answer where they are unknown."""


class TableFeatures:
    """Turns the tables of a batch into the columns that trees split on.

    A number is the normal score of its rank among the training rows. What else they are told depends on how they cut.
    """

    def __init__(self, statistics: Statistics, *, random_cuts: bool) -> None:
        """Look up the columns.

        Parameters
        ----------
        statistics
            Quantiles and codes of the training rows.
        random_cuts
            Trees that cut at random are given a category as as many columns of 0 and 1 as it has codes, and a missing
            number apart from all others. Those that look for the best cut of a few columns would fit the absence of
            soil values, and find a category sooner in one column: they get the median, where the score is 0, and the
            place of the code from 1 on, 0 where it is missing or was not known in training.
        """
        self.tables, self.random_cuts = statistics.tables, random_cuts
        self.missing = MISSING_SCORE if random_cuts else 0.0
        self.scores = {
            name: QuantileScore([table.quantiles[column] for column in table.columns if column in table.quantiles])
            for name, table in self.tables.items()
        }

    @property
    def numbers(self) -> set[str]:
        """Names of the columns that are numbers."""
        return {f"{name}.{column}" for name, table in self.tables.items() for column in table.quantiles}

    @property
    def columns(self) -> list[str]:
        """(F,) names, ``modality.column`` or ``modality.column=code``: of each table the numbers, then categories."""
        names = []
        for name, table in self.tables.items():
            names += [f"{name}.{column}" for column in table.columns if column in table.quantiles]
            for column in (column for column in table.columns if column in table.codes):
                codes = [f"={code:g}" for code in table.codes[column]] if self.random_cuts else [""]
                names += [f"{name}.{column}{code}" for code in codes]
        return names

    def of(self, batch: Batch) -> Tensor:
        """Return (B, F) float32 features, on the CPU; a survey without a table has all of its columns missing."""
        parts = []
        for name, table in self.tables.items():
            values_BK = torch.full((len(batch), len(table.columns)), torch.nan)
            if name in batch.values:
                values_BK[batch.places[name].cpu()] = batch.values[name].cpu()
            numbers = [i for i, column in enumerate(table.columns) if column in table.quantiles]
            parts.append(torch.nan_to_num(self.scores[name](values_BK[:, numbers]), nan=self.missing))
            for i, column in enumerate(table.columns):
                if column in table.codes:
                    codes = torch.tensor(table.codes[column], dtype=torch.float32)
                    matches = (values_BK[:, i, None] == codes).float()
                    places = torch.arange(1.0, len(codes) + 1)
                    parts.append(matches if self.random_cuts else (matches * places).sum(dim=1, keepdim=True))
        return torch.cat(parts, dim=1)

    def hide_facts(self, features_NF: Tensor, rng: np.random.Generator) -> Tensor:
        """Return features in which a share of the rows lack all facts of the survey: its area, year, country, region.

        Trees cut at these facts early and often. One that never saw a row without them takes a plot of unknown area for
        one of the smallest, and a new country for none that it knows.
        """
        facts_F = torch.tensor([column.startswith("survey.") for column in self.columns])
        numbers_F = torch.tensor([column in self.numbers for column in self.columns])
        hidden_N = torch.from_numpy(rng.random(len(features_NF)) < HIDDEN_SHARE)
        return torch.where(hidden_N[:, None] & facts_F, numbers_F * self.missing, features_NF)


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
