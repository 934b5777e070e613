"""Head and loss species by species give the loss and the gradients of the whole table of logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from releve.train import head_loss as module
from releve.train.head_loss import Chunk, Presences, cross_entropy, head_loss
from releve.train.losses import LOSSES
from releve.train.start import OWN_SHARE

NUM_ROWS, NUM_BACKGROUND, NUM_SPECIES, WIDTH = 12, 5, 300, 7


def make_problem(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(NUM_ROWS, NUM_SPECIES, generator=generator) < 0.05  # some 15 species a row, some species none
    labels[3] = False
    return {
        "features": torch.randn(NUM_ROWS + NUM_BACKGROUND, WIDTH, generator=generator),
        "weight": torch.randn(NUM_SPECIES, WIDTH, generator=generator),
        "bias": torch.randn(NUM_SPECIES, generator=generator) - 3,
        "labels": labels,
        "trust": torch.rand(NUM_ROWS, generator=generator),
        "frequency": torch.rand(NUM_SPECIES, generator=generator) * 0.9 + 0.05,
    }


def presences_of(problem: dict[str, torch.Tensor]) -> Presences:
    rows, species = problem["labels"].numpy().nonzero()
    return Presences.of(rows, species, np.full(len(rows), 1 / NUM_ROWS), torch.device("cpu"))


def loss_of_chunk(name: str, background: str, problem: dict[str, torch.Tensor]) -> Callable[[Chunk], torch.Tensor]:
    share = OWN_SHARE[background]
    own, elsewhere = share * problem["trust"] / NUM_ROWS, (1 - share) / NUM_BACKGROUND
    silence = torch.cat([own, torch.full((NUM_BACKGROUND,), elsewhere)])
    return lambda chunk: LOSSES[name](chunk, silence, NUM_ROWS, problem["frequency"])


def whole_chunk(logits: torch.Tensor, presences: Presences) -> Chunk:
    """Return all logits at once, the presences' looked up in the table."""
    at = presences.rows_P, presences.species_P
    return Chunk(0, logits, *at, presences.weight_P, logits[at])


def with_gradients(problem: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [problem[name].clone().requires_grad_() for name in ("features", "weight", "bias")]


@pytest.mark.parametrize("background", ["target_group", "mixed"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [64, 97, 1000])
def test_every_loss_and_its_gradients_are_those_of_all_logits_at_once(
    name: str, background: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "chunk_size", lambda *_: size)
    problem = make_problem()
    loss_of, presences = loss_of_chunk(name, background, problem), presences_of(problem)
    ours, theirs = with_gradients(problem), with_gradients(problem)
    loss = head_loss(*ours, presences, loss_of)
    whole = loss_of(whole_chunk(functional.linear(*theirs), presences))
    (2 * loss).backward()
    (2 * whole).backward()
    torch.testing.assert_close(loss, whole, rtol=1e-5, atol=1e-5)
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-5)


def test_bce_is_that_of_torch_on_dense_labels() -> None:
    problem = make_problem()
    ours, theirs = (
        [problem["features"][:NUM_ROWS].clone().requires_grad_(), *with_gradients(problem)[1:]] for _ in "ab"
    )
    silence = torch.full((NUM_ROWS,), 1 / NUM_ROWS)
    head_loss(*ours, presences_of(problem), lambda chunk: cross_entropy(chunk, silence)).backward()
    dense = problem["labels"].float()
    (functional.binary_cross_entropy_with_logits(functional.linear(*theirs), dense, reduction="sum") / 12).backward()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-6)


def test_bf16_products_are_near_and_rare_species_keep_their_biases() -> None:
    problem = make_problem()
    problem["bias"] = -12 - torch.arange(NUM_SPECIES) / 1000  # apart by less than bf16 can tell at -12
    exact, rough = with_gradients(problem), with_gradients(problem)
    loss_of, presences = loss_of_chunk("bce", "target_group", problem), presences_of(problem)
    one, other = head_loss(*exact, presences, loss_of), head_loss(*rough, presences, loss_of, dtype=torch.bfloat16)
    assert other.dtype == torch.float32 and other.item() == pytest.approx(one.item(), rel=1e-2)
    one.backward()
    other.backward()
    assert functional.cosine_similarity(exact[1].grad.flatten(), rough[1].grad.flatten(), dim=0) > 0.999
    none = [torch.zeros_like(x) for x in exact[:2]]
    table = []

    def keep(chunk: Chunk) -> torch.Tensor:
        table.append(chunk.logits_NC.clone())
        return chunk.logits_NC.sum()

    head_loss(*none, problem["bias"], presences, keep, dtype=torch.bfloat16)
    assert torch.equal(torch.cat(table, dim=1)[0], problem["bias"])


def test_without_gradients_only_the_loss_is_worked_out() -> None:
    problem = make_problem()
    loss_of, presences = loss_of_chunk("trusted_bce", "target_group", problem), presences_of(problem)
    tensors = [problem[name] for name in ("features", "weight", "bias")]
    loss = head_loss(*tensors, presences, loss_of)
    assert not loss.requires_grad
    with torch.no_grad():
        again = head_loss(*with_gradients(problem), presences, loss_of)
    assert loss.item() == again.item() and not again.requires_grad


def test_no_row_at_all_gives_no_loss_and_zero_gradients() -> None:
    problem = make_problem()
    none = np.zeros(0, np.int64)
    tensors = [torch.zeros(0, WIDTH, requires_grad=True), *with_gradients(problem)[1:]]
    presences = Presences.of(none, none, none, torch.device("cpu"))
    head_loss(*tensors, presences, lambda chunk: cross_entropy(chunk, torch.zeros(0))).backward()
    assert tensors[0].grad.shape == (0, WIDTH) and not tensors[1].grad.any() and not tensors[2].grad.any()
