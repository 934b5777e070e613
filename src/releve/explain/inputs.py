"""What a member sees of some surveys, in a form in which single values can be changed."""

# N surveys, K columns of a table, E embedding

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.data.gather import Batch
from releve.data.statistics import TableStatistics
from releve.models.kinds import MemberModel
from releve.models.model import SpeciesModel
from releve.runs.folder import Run
from releve.runs.predict import BATCH_SIZE, gatherer_for, logits_of
from releve.store.read import Store
from releve.train.device import autocast_for


@dataclass(frozen=True, eq=False)
class Inputs:
    """N surveys as one member sees them.

    Parameters
    ----------
    tables
        By table modality, (N, K) float32 in the columns of the member's statistics, NaN where missing.
    embeddings
        By series or patch modality, (N, E): what the member's encoder makes of it, worked out once.
    has
        By modality, (N,) bool: the surveys that have it.
    year, month
        (N,) int64, as in a batch.
    """

    tables: Mapping[str, Tensor]
    embeddings: Mapping[str, Tensor]
    has: Mapping[str, Tensor]
    year: Tensor
    month: Tensor

    def __len__(self) -> int:
        return len(self.year)

    def take(self, index: Tensor) -> Inputs:
        """Return the surveys at these positions, in their order."""
        return Inputs(
            {name: table_NK[index] for name, table_NK in self.tables.items()},
            {name: embedding_NE[index] for name, embedding_NE in self.embeddings.items()},
            {name: has_N[index] for name, has_N in self.has.items()},
            self.year[index],
            self.month[index],
        )

    def with_whole(self, name: str, given: Inputs) -> Inputs:
        """Return the surveys with a whole modality of others, which lack it where those do; the date stays theirs."""
        if name not in self.has:
            return self
        has = {**self.has, name: given.has[name]}
        if name in self.tables:
            return replace(self, tables={**self.tables, name: given.tables[name]}, has=has)
        return replace(self, embeddings={**self.embeddings, name: given.embeddings[name]}, has=has)

    def with_columns(self, name: str, columns: Sequence[int], values_NK: Tensor) -> Inputs:
        """Return the surveys with other values in some columns of a table; surveys that lack the table still do."""
        table_NK = self.tables[name].clone()
        table_NK[:, list(columns)] = values_NK
        return replace(self, tables={**self.tables, name: table_NK})

    def batch(self) -> tuple[Batch, dict[str, tuple[Tensor, Tensor]]]:
        """Return what a model is given: the tables as a batch, and what is known of the other modalities."""
        places = {name: self.has[name].nonzero().squeeze(1) for name in self.tables}
        values = {name: table_NK[places[name]] for name, table_NK in self.tables.items()}
        places["plots"] = torch.arange(len(self))
        known = {name: (embedding_NE, self.has[name]) for name, embedding_NE in self.embeddings.items()}
        return Batch(values, places, self.year, self.month), known


def gather_inputs(run: Run, model: MemberModel, store: Store, rows: NDArray[np.int64]) -> Inputs:
    """Return what a member sees of the surveys at these positions of a store; nothing of it is normalised."""
    gatherer = gatherer_for(model, store)
    starts = range(0, max(len(rows), 1), BATCH_SIZE)
    return join([_gather(run, model, gatherer.batch(rows[start : start + BATCH_SIZE])) for start in starts])


def join(parts: Sequence[Inputs]) -> Inputs:
    """Return the surveys of several, one after the other; all of one member."""
    first = parts[0]
    return Inputs(
        {name: torch.cat([part.tables[name] for part in parts]) for name in first.tables},
        {name: torch.cat([part.embeddings[name] for part in parts]) for name in first.embeddings},
        {name: torch.cat([part.has[name] for part in parts]) for name in first.has},
        torch.cat([part.year for part in parts]),
        torch.cat([part.month for part in parts]),
    )


@torch.inference_mode()
def _gather(run: Run, model: MemberModel, batch: Batch) -> Inputs:
    tables: dict[str, Tensor] = {}
    embeddings: dict[str, Tensor] = {}
    has: dict[str, Tensor] = {}
    for name, table in model.statistics.tables.items():
        if name in model.modalities:
            tables[name] = torch.full((len(batch), len(table.columns)), torch.nan)
            has[name] = torch.zeros(len(batch), dtype=torch.bool)
            if name in batch.values:
                tables[name][batch.places[name]] = batch.values[name].float()
                has[name][batch.places[name]] = True
    if isinstance(model, SpeciesModel):
        with autocast_for(run.config.train, run.device):
            moved = batch.to(run.device)
            for name in (name for name in model.encoders if name not in tables):
                embeddings[name], has[name] = model.embed(name, moved)
    return Inputs(tables, embeddings, has, batch.year, batch.month)


def ask(run: Run, model: MemberModel, inputs: Inputs) -> Tensor:
    """Return a member's (N, S) float32 logits of the surveys, on the run's device."""
    batch, known = inputs.batch()
    device = run.device
    moved = {name: (embedding.to(device), has.to(device)) for name, (embedding, has) in known.items()}
    return logits_of(run, model, batch, moved)


def column_of(table: TableStatistics | None, name: str) -> int | None:
    """Return where a column stands in a member's table; None where it has none of that name."""
    return None if table is None or name not in table.columns else table.columns.index(name)
