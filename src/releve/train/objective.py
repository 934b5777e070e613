"""What a step minimises, as a module, so that several processes can share its gradients."""

# N rows, S species, C species of one chunk

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releve.data.batch import Batch
from releve.data.gather import Gatherer
from releve.models.model import SpeciesModel
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.head_loss import Logits, head_loss
from releve.train.losses import BACKGROUNDS, LOSSES, Sites
from releve.train.processes import num_ranks
from releve.train.sampler import Step


@dataclass(frozen=True)
class Presences:
    """Who grows where among some rows, sorted by species; which are of a chunk is known without asking the device."""

    rows: Tensor
    species: Tensor
    sorted_species: NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch, first_row: int, last_row: int, device: torch.device) -> Presences:
        """Return those of the batch's rows from ``first_row`` up to ``last_row``, counted from the first."""
        start, stop = np.searchsorted(batch.label_rows.numpy(), [first_row, last_row])
        species = batch.label_species[start:stop].numpy()
        order = np.argsort(species, kind="stable")
        pairs = torch.from_numpy(np.stack([batch.label_rows[start:stop].numpy()[order] - first_row, species[order]]))
        pairs = pairs.pin_memory() if device.type == "cuda" else pairs
        rows, sorted_by = pairs.to(device, non_blocking=True)
        return cls(rows, sorted_by, species[order])

    def within(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return (rows, species) of the species from ``first`` up to ``last``, counted from ``first``."""
        start, stop = np.searchsorted(self.sorted_species, [first, last])
        return self.rows[start:stop], self.species[start:stop] - first


@dataclass(frozen=True)
class Part:
    """What a process works on at a time: some of a step's rows."""

    batch: Batch
    own: Step
    """The rows of the batch, in its order."""
    whole: Step
    """All rows of the step, which means are taken over."""
    plots: Presences
    records: Presences


def make_part(gatherer: Gatherer, own: Step, together: Step, whole: Step, device: torch.device) -> Part:
    """Gather some of a step's rows.

    Parameters
    ----------
    gatherer
        Of the modalities that the model looks at.
    own, together, whole
        The rows; those that all processes look at at the same time; all of the step.
    device
        Where they are wanted.
    """
    batch = gatherer.batch(own.rows, together.rows)
    num_plots, last = len(own.plots), len(own.plots) + len(own.records)
    pairs = Presences.of(batch, 0, num_plots, device), Presences.of(batch, num_plots, last, device)
    return Part(batch.to(device), own, whole, *pairs)


class Objective(nn.Module):
    """The loss of the plots plus the weighted loss of the presence-only rows.

    Parameters
    ----------
    model
        The network.
    config, records
        How plots and presence-only rows are learned from.
    dtype
        Type of matrix products and convolutions, float32 or bfloat16.
    """

    frequency_S: Tensor
    record_frequency_S: Tensor
    class_weight_S: Tensor | None

    def __init__(self, model: SpeciesModel, config: TrainConfig, records: RecordsConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.config, self.records, self.dtype = model, config, records, dtype
        known = model.statistics
        frequency = share_of(known.num_positives, known.num_rows)
        self.register_buffer("frequency_S", frequency)
        """Share of the training plots that have each species; without plots, of the presence-only rows."""
        theirs = share_of(known.record_positives, known.num_records) if known.record_positives else frequency
        self.register_buffer("record_frequency_S", theirs)
        """Share of the presence-only rows that have each species."""
        weight_S = frequency**-config.class_weight if config.class_weight else None
        self.register_buffer("class_weight_S", None if weight_S is None else weight_S / weight_S.mean())

    def forward(self, part: Part) -> Tensor:
        """Return the part's share of the step's loss: over all parts they add up to it."""
        batch, whole, num_plots = part.batch, part.whole, len(part.own.plots)
        last = num_plots + len(part.own.records)
        with torch.autocast(batch.rows.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            features_NF = self.model.features(batch)

        def loss_of(logits: Logits, first: int, until: int) -> Tensor:
            table_NC, loss = logits.table_NC, logits.table_NC.new_zeros(())
            if len(whole.plots):
                rows, species = part.plots.within(first, until)
                picked = logits.pick(rows, species)
                loss = loss + self.plot_loss(
                    table_NC[:num_plots], rows, species, first=first, num_rows=len(whole.plots), picked_P=picked
                )
            if len(whole.records):
                rows, species = part.records.within(first, until)
                sites = Sites(
                    table_NC[num_plots:last],
                    rows,
                    species,
                    trust_B=batch.trust[num_plots:last],
                    background_KS=table_NC[last:] if len(whole.background) else None,
                    own_share=BACKGROUNDS[self.records.background],
                    frequency_S=self.record_frequency_S[first:until],
                    num_rows=len(whole.records),
                    num_background=len(whole.background),
                    num_species=len(self.record_frequency_S),
                    picked_P=logits.pick(rows + num_plots, species),
                )
                weight = self.records.weight if len(whole.plots) else 1.0
                loss = loss + weight * LOSSES[self.records.loss](sites)
            return loss

        rows = -(-len(whole.rows) // num_ranks())  # the same number in all processes
        return head_loss(features_NF, *self.model.species_weights(), loss_of, dtype=self.dtype, num_rows=rows)

    def plot_loss(
        self,
        logits_NC: Tensor,
        label_rows: Tensor,
        label_species: Tensor,
        *,
        first: int = 0,
        num_rows: int = 0,
        picked_P: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of plots, of the species from ``first`` on that logits are given of."""
        until = first + logits_NC.shape[1]
        sites = Sites(
            logits_NC,
            label_rows,
            label_species,
            frequency_S=self.frequency_S[first:until],
            class_weight_S=None if self.class_weight_S is None else self.class_weight_S[first:until],
            num_rows=num_rows or len(logits_NC),
            num_species=len(self.frequency_S),
            picked_P=picked_P,
        )
        return LOSSES[self.config.loss](sites)


def share_of(num_positives: list[int], num_rows: int) -> Tensor:
    """Return (S,) shares of rows that have each species, never 0 or 1."""
    return (torch.tensor(num_positives) + 0.5) / (num_rows + 1.0)
