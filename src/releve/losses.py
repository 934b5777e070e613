"""Losses of multi-label species models, from sparse labels."""

# B batch, S species

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def sparse_bce(logits_BS: Tensor, label_rows: Tensor, label_species: Tensor) -> Tensor:
    """Return the binary cross-entropy of multi-label rows, summed over species and averaged over surveys.

    Parameters
    ----------
    logits_BS
        Logits.
    label_rows, label_species
        (positives,) index pairs of the species present.

    Notes
    -----
    With y in {0, 1}, ``BCE = softplus(z) - y z``: the first term needs no labels and the second only the positives,
    so no dense label matrix is made.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> dense = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> ours = sparse_bce(logits, torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]))
    >>> theirs = functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / 2
    >>> torch.allclose(ours, theirs)
    True
    """
    logits_BS = logits_BS.to(torch.promote_types(logits_BS.dtype, torch.float32))  # sums of bf16 lose the rare species
    return (functional.softplus(logits_BS).sum() - logits_BS[label_rows, label_species].sum()) / len(logits_BS)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"bce": sparse_bce}
