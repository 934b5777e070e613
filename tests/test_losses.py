"""Losses from sparse labels equal torch's from dense ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from releve.losses import LOSSES, sparse_bce


def draw(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits of 6 surveys and 9 species, several of them in most surveys and none in the last."""
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(6, 9, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
    dense = (torch.rand(6, 9, generator=generator) < 0.4).to(torch.float64)
    dense[5] = 0
    rows, species = dense.nonzero(as_tuple=True)
    assert dense.sum(dim=1).max() > 2
    return logits, rows, species, dense


def test_loss_and_gradient_equal_torchs_on_dense_labels() -> None:
    logits, rows, species, dense = draw()
    ours = sparse_bce(logits, rows, species)
    theirs = functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / 6
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-9)


def test_bf16_logits_are_summed_in_float32() -> None:
    logits, rows, species, dense = draw(torch.bfloat16)
    loss = sparse_bce(logits, rows, species)
    assert loss.dtype == torch.float32
    expected = functional.binary_cross_entropy_with_logits(logits.double(), dense, reduction="sum") / 6
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = sparse_bce(logits, torch.tensor([0, 1]), torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx((0 + 1e4 + 1e4) / 2)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_labels_does_not_matter_and_no_label_is_no_error(name: str) -> None:
    logits, rows, species, _ = draw()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(LOSSES[name](logits, rows[order], species[order]), LOSSES[name](logits, rows, species))
    empty = torch.zeros(0, dtype=torch.int64)
    torch.testing.assert_close(
        LOSSES[name](logits, empty, empty), functional.softplus(logits).sum() / 6, rtol=1e-7, atol=0
    )
