"""One batch of surveys, as raw as the store holds it; normalisation belongs to the model."""

# B batch, P surveys of the batch that have a modality, S species
# C channels, H W pixels, Y years, Q seasons, K covariates

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a model is given.

    Parameters
    ----------
    rows
        (B,) int64 positions in the store.
    values
        By modality, for the P surveys that have it: ``covariates`` and ``survey`` (P, K) float32 with NaN for
        missing; ``landsat`` and ``climate`` (P, C, Y, Q) and ``patch`` (P, C, H, W) in the store's integer type;
        ``location`` (P, 2) float32 degrees ``lon, lat``; ``observation`` (P, K) float32 of presence-only rows.
    places
        By modality, (P,) int64: positions in the batch of the surveys in ``values``, ascending. ``plots``: the rows
        that were observed as plots are, or are yet to be.
    year, month
        (B,) int64; month 0 where only the year is known.
    label_rows, label_species
        (positives,) int64 pairs: position in the batch and ``species_index`` of every species present, by row. They
        stay on the CPU, where losses sort them.
    trust
        (B,) float32: how far a row's silence is trusted, 0 to 1; 1 for a plot.
    counts
        By modality, how many surveys have it in the batches of all processes that take the step together; those of
        this batch where a name is not in it.
    """

    rows: Tensor
    values: dict[str, Tensor]
    places: dict[str, Tensor]
    year: Tensor
    month: Tensor
    label_rows: Tensor
    label_species: Tensor
    trust: Tensor
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, name: str) -> int:
        """Return how many surveys of the step have a modality; 0 if it was not gathered."""
        return self.counts.get(name, len(self.places.get(name, ())))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""

        def move(x: Tensor) -> Tensor:
            if device.type == "cuda" and not x.is_cuda:
                x = x.pin_memory()  # from pageable memory a copy waits for the steps before it
            return x.to(device, non_blocking=True)

        return replace(
            self,
            rows=move(self.rows),
            values={name: move(x) for name, x in self.values.items()},
            places={name: move(x) for name, x in self.places.items()},
            year=move(self.year),
            month=move(self.month),
            trust=move(self.trust),
        )

    def dense_labels(self, num_species: int) -> Tensor:
        """Return (B, S) float32 labels of 0 and 1; for tests and small vocabularies.

        Examples
        --------
        >>> none = torch.zeros(2, dtype=torch.int64)
        >>> pairs = torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])
        >>> Batch(none, {}, {}, none, none, *pairs, torch.ones(2)).dense_labels(3)
        tensor([[1., 0., 1.],
                [0., 1., 0.]])
        """
        labels = torch.zeros(len(self), num_species)
        labels[self.label_rows, self.label_species] = 1.0
        return labels
