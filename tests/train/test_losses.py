"""Each loss is the published one, on a table small enough to read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from releve.train.head_loss import Chunk, cross_entropy
from releve.train.losses import LOSSES, PublishedLoss, Sources, share_of
from releve.train.start import OWN_SHARE

SETS = [[0, 2, 5], [], [1, 2, 3], [4]]
ROWS, SPECIES = (torch.tensor(x) for x in zip(*[(r, s) for r, row in enumerate(SETS) for s in row], strict=True))
FREQUENCY = torch.tensor([0.5, 0.25, 0.1, 0.2, 0.05, 0.01], dtype=torch.float64)


@dataclass
class Sites:
    """Four rows and some background sites, with what their silence counts."""

    rows_BS: torch.Tensor
    background_KS: torch.Tensor
    own_share: float = 1.0
    trust_B: torch.Tensor | None = None

    def loss(self, name: str) -> torch.Tensor:
        """Return a loss by its name."""
        logits = torch.cat([self.rows_BS, self.background_KS])
        weight_P = torch.full((len(ROWS),), 1 / 4, dtype=logits.dtype)
        chunk = Chunk(0, logits, ROWS, SPECIES, weight_P, logits[ROWS, SPECIES])
        own = self.own_share / 4 * (torch.ones(4, dtype=logits.dtype) if self.trust_B is None else self.trust_B)
        number = len(self.background_KS)
        elsewhere = torch.full((number,), (1 - self.own_share) / max(1, number), dtype=logits.dtype)
        return LOSSES[name](chunk, torch.cat([own, elsewhere]), 4, FREQUENCY.to(logits.dtype))


def make_sites(seed: int = 0, num_background: int = 3, **options: object) -> Sites:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    background = torch.randn(num_background, 6, generator=generator, dtype=torch.float64)
    return Sites(logits, background, **options)  # type: ignore[arg-type]


def dense() -> torch.Tensor:
    labels = torch.zeros(4, 6, dtype=torch.float64)
    labels[ROWS, SPECIES] = 1
    return labels


def test_bce_equals_torch_on_dense_labels() -> None:
    sites = make_sites()
    theirs = functional.binary_cross_entropy_with_logits(sites.rows_BS, dense(), reduction="sum") / 4
    assert sites.loss("bce").item() == pytest.approx(theirs.item(), abs=1e-12)


def test_bce_with_a_random_background_takes_no_silence_from_the_rows() -> None:
    sites = make_sites(own_share=0.0)
    positives = functional.softplus(-sites.rows_BS)[ROWS, SPECIES].sum() / 4
    theirs = positives + functional.softplus(sites.background_KS).sum() / 3
    assert sites.loss("bce").item() == pytest.approx(theirs.item(), abs=1e-12)


def test_a_mixed_background_is_the_mean_of_the_two() -> None:
    for name in ("bce", "trusted_bce", "an_full", "asymmetric"):
        own, mixed, random = (make_sites(own_share=share).loss(name).item() for share in (1.0, 0.5, 0.0))
        assert mixed == pytest.approx((own + random) / 2, abs=1e-12), name


def test_trust_weighs_each_row_s_silence() -> None:
    trust = torch.tensor([0.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    sites = make_sites(trust_B=trust)
    terms = functional.binary_cross_entropy_with_logits(sites.rows_BS, dense(), reduction="none")
    theirs = torch.where(dense() == 1, terms, terms * trust[:, None]).sum() / 4
    assert sites.loss("trusted_bce").item() == pytest.approx(theirs.item(), abs=1e-12)


def test_assume_negative_full_is_the_published_loss_over_its_lambda() -> None:
    sites = make_sites(own_share=0.5, num_background=4)
    probs, elsewhere = torch.sigmoid(sites.rows_BS), torch.sigmoid(sites.background_KS)
    labels = dense()
    published = -(2048 * labels * probs.log() + (1 - labels) * (1 - probs).log() + (1 - elsewhere).log())
    assert sites.loss("an_full").item() == pytest.approx(published.sum().item() / 4 / 2048, rel=1e-12)


def test_full_weighted_is_the_published_loss() -> None:
    sites = make_sites(own_share=0.8, num_background=4)
    probs, elsewhere = torch.sigmoid(sites.rows_BS), torch.sigmoid(sites.background_KS)
    labels, weight = dense(), 1 / FREQUENCY
    published = -(
        labels * weight * probs.log()
        + 0.8 * (1 - labels) / (1 - 1 / weight) * (1 - probs).log()
        + 0.2 * (1 - elsewhere).log()
    )
    assert sites.loss("full_weighted").item() == pytest.approx(published.mean(dim=1).mean().item(), rel=1e-12)


def test_deep_maxent_is_the_log_softmax_over_the_sites() -> None:
    sites = make_sites()
    published = -(dense() * torch.log_softmax(sites.rows_BS, dim=0)).sum() / 4
    ours = sites.loss("deep_maxent").item() + len(ROWS) / 4 * math.log(4)  # the softmax's sum here is a mean
    assert ours == pytest.approx(published.item(), rel=1e-12)


def test_deep_maxent_does_not_change_when_a_species_logits_are_shifted() -> None:
    shift = torch.arange(6.0, dtype=torch.float64)
    for share in OWN_SHARE.values():
        sites = make_sites(own_share=share)
        moved = Sites(sites.rows_BS + shift, sites.background_KS + shift, share)
        assert moved.loss("deep_maxent").item() == pytest.approx(sites.loss("deep_maxent").item(), abs=1e-9)


def test_asymmetric_is_the_published_loss() -> None:
    sites = make_sites()
    probs, labels = torch.sigmoid(sites.rows_BS), dense()
    shifted = (probs - 0.02).clamp(min=0)
    published = -(labels * probs.log() + (1 - labels) * shifted**4 * (1 - shifted).log()).sum() / 4
    assert sites.loss("asymmetric").item() == pytest.approx(published.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("background", OWN_SHARE)
def test_every_loss_learns_which_site_has_which_species(name: str, background: str) -> None:
    """Gradient descent on logits ranks each species' presences above the rows without it."""
    logits = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    elsewhere = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits, elsewhere], lr=0.1)
    for _ in range(60):
        loss = Sites(logits, elsewhere, OWN_SHARE[background]).loss(name)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert math.isfinite(loss.item())
    present = logits.detach()[ROWS, SPECIES].min()
    silent = logits.detach()[dense() == 0] if background == "target_group" else elsewhere.detach()
    assert present > silent.max()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [40.0, -40.0])
def test_losses_and_gradients_are_finite_at_extreme_logits(name: str, size: float) -> None:
    logits = torch.full((4, 6), size, requires_grad=True)
    loss = Sites(logits, logits.detach()[:2], 0.5).loss(name)
    loss.backward()
    assert math.isfinite(loss.item()) and logits.grad is not None and torch.isfinite(logits.grad).all()


def test_silence_counts_species_that_are_not_listed() -> None:
    """At logits of 0 every species costs log 2, and presences of no weight nothing."""
    logits = torch.zeros(4, 6, dtype=torch.float64)
    chunk = Chunk(0, logits, ROWS, SPECIES, torch.zeros(len(ROWS), dtype=torch.float64), logits[ROWS, SPECIES])
    counted = cross_entropy(chunk, torch.full((4,), 0.25, dtype=torch.float64)) / math.log(2)
    assert counted.item() == pytest.approx(np.mean([6 - len(row) for row in SETS]))


KNOWN = SimpleNamespace(
    num_positives=[5, 1, 0, 2, 3, 9], num_rows=9, record_positives=[1, 8, 7, 0, 2, 3], num_records=19
)


@pytest.mark.parametrize("plots", ["bce", "full_weighted", "asymmetric"])
@pytest.mark.parametrize("records", LOSSES)
def test_plots_and_records_have_each_their_own_loss_and_frequencies(plots: str, records: str) -> None:
    """Rows 0 and 1 are plots, 2 and 3 records of weight 5, the others background; taken apart they give the same."""
    whole, own = make_sites(num_background=2), 0.5
    logits, is_plot = torch.cat([whole.rows_BS, whole.background_KS]), ROWS < 2
    weight_P = torch.where(is_plot, 1 / 2, 5 / 2).double()
    chunk = Chunk(0, logits, ROWS, SPECIES, weight_P, logits[ROWS, SPECIES])
    silence = torch.tensor([1 / 2, 1 / 2, 5 * own / 2, 5 * own / 2, 5 * own / 2, 5 * own / 2], dtype=torch.float64)
    sources = Sources(2, 4, has_plots=True, has_records=True, record_weight=5.0)
    total = PublishedLoss(KNOWN, plots, records).double()(chunk, silence, sources)

    ours = Chunk(0, logits[:2], ROWS[is_plot], SPECIES[is_plot], weight_P[is_plot], chunk.logits_P[is_plot])
    alone = LOSSES[plots](ours, silence[:2], 2, (torch.tensor(KNOWN.num_positives) + 0.5).double() / 10)
    theirs = Chunk(
        0, logits[2:], ROWS[~is_plot] - 2, SPECIES[~is_plot], weight_P[~is_plot] / 5, chunk.logits_P[~is_plot]
    )
    recorded = LOSSES[records](theirs, silence[2:] / 5, 2, (torch.tensor(KNOWN.record_positives) + 0.5).double() / 20)
    assert total.item() == pytest.approx((alone + 5 * recorded).item(), rel=1e-6)


def test_shares_of_rows_are_never_0_or_1() -> None:
    np.testing.assert_allclose(share_of([0, 3, 4], 4), [0.1, 0.7, 0.9])
