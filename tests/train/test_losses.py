from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from releve.train.losses import BACKGROUNDS, LOSSES, Sites, silence

SETS = [[0, 2, 5], [], [1, 2, 3], [4]]
ROWS, SPECIES = (torch.tensor(x) for x in zip(*[(r, s) for r, row in enumerate(SETS) for s in row], strict=True))


def make_sites(seed: int = 0, num_background: int = 3, **options: object) -> Sites:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    background = torch.randn(num_background, 6, generator=generator, dtype=torch.float64)
    return Sites(logits, ROWS, SPECIES, background_KS=background, **options)  # type: ignore[arg-type]


def dense() -> torch.Tensor:
    labels = torch.zeros(4, 6, dtype=torch.float64)
    labels[ROWS, SPECIES] = 1
    return labels


def test_bce_equals_torch_on_dense_labels() -> None:
    sites = make_sites()
    theirs = functional.binary_cross_entropy_with_logits(sites.logits_BS, dense(), reduction="sum") / 4
    assert LOSSES["bce"](sites).item() == pytest.approx(theirs.item(), abs=1e-12)


def test_bce_with_a_random_background_takes_no_silence_from_the_rows() -> None:
    sites = make_sites(own_share=0.0)
    positives = functional.softplus(-sites.logits_BS)[ROWS, SPECIES].sum() / 4
    assert sites.background_KS is not None
    theirs = positives + functional.softplus(sites.background_KS).sum() / 3
    assert LOSSES["bce"](sites).item() == pytest.approx(theirs.item(), abs=1e-12)


def test_a_mixed_background_is_the_mean_of_the_two() -> None:
    for name in ("bce", "trusted_bce", "an_full", "asymmetric"):
        own, mixed, random = (LOSSES[name](make_sites(own_share=share)).item() for share in (1.0, 0.5, 0.0))
        assert mixed == pytest.approx((own + random) / 2, abs=1e-12), name


def test_trust_weighs_each_row_s_silence() -> None:
    trust = torch.tensor([0.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    sites = make_sites(trust_B=trust)
    terms = functional.binary_cross_entropy_with_logits(sites.logits_BS, dense(), reduction="none")
    theirs = torch.where(dense() == 1, terms, terms * trust[:, None]).sum() / 4
    assert LOSSES["trusted_bce"](sites).item() == pytest.approx(theirs.item(), abs=1e-12)
    assert LOSSES["bce"](sites).item() == pytest.approx(LOSSES["bce"](make_sites()).item())  # plain: trust is not used


def test_assume_negative_full_is_the_published_loss_over_its_lambda() -> None:
    sites = make_sites(own_share=0.5, num_background=4)
    assert sites.background_KS is not None
    probs, elsewhere = torch.sigmoid(sites.logits_BS), torch.sigmoid(sites.background_KS)
    labels = dense()
    published = -(2048 * labels * probs.log() + (1 - labels) * (1 - probs).log() + (1 - elsewhere).log())
    assert LOSSES["an_full"](sites).item() == pytest.approx(published.sum().item() / 4 / 2048, rel=1e-12)


def test_full_weighted_is_the_published_loss() -> None:
    frequency = torch.tensor([0.5, 0.25, 0.1, 0.2, 0.05, 0.01], dtype=torch.float64)
    sites = make_sites(own_share=0.8, num_background=4, frequency_S=frequency)
    assert sites.background_KS is not None
    probs, elsewhere = torch.sigmoid(sites.logits_BS), torch.sigmoid(sites.background_KS)
    labels, weight = dense(), 1 / frequency
    published = -(
        labels * weight * probs.log()
        + 0.8 * (1 - labels) / (1 - 1 / weight) * (1 - probs).log()
        + 0.2 * (1 - elsewhere).log()
    )
    assert LOSSES["full_weighted"](sites).item() == pytest.approx(published.mean(dim=1).mean().item(), rel=1e-12)


def test_deep_maxent_is_the_log_softmax_over_the_sites() -> None:
    sites = make_sites()
    published = -(dense() * torch.log_softmax(sites.logits_BS, dim=0)).sum() / 4
    presences = len(ROWS)
    ours = LOSSES["deep_maxent"](sites).item() + presences / 4 * math.log(4)  # the softmax's sum here is a mean
    assert ours == pytest.approx(published.item(), rel=1e-12)


def test_deep_maxent_does_not_change_when_a_species_logits_are_shifted() -> None:
    for share in BACKGROUNDS.values():
        sites = make_sites(own_share=share)
        assert sites.background_KS is not None
        shift = torch.arange(6.0, dtype=torch.float64)
        moved = make_sites(own_share=share)
        moved = Sites(
            moved.logits_BS + shift, ROWS, SPECIES, background_KS=sites.background_KS + shift, own_share=share
        )
        assert LOSSES["deep_maxent"](moved).item() == pytest.approx(LOSSES["deep_maxent"](sites).item(), abs=1e-9)


def test_asymmetric_is_the_published_loss() -> None:
    sites = make_sites()
    probs, labels = torch.sigmoid(sites.logits_BS), dense()
    shifted = (probs - 0.02).clamp(min=0)
    published = -(labels * probs.log() + (1 - labels) * shifted**4 * (1 - shifted).log()).sum() / 4
    assert LOSSES["asymmetric"](sites).item() == pytest.approx(published.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_loss_learns_which_site_has_which_species(name: str, background: str) -> None:
    """Gradient descent on logits ranks each species' presences above the rows without it."""
    frequency = dense().mean(dim=0).clamp(min=0.1)
    logits = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    elsewhere = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits, elsewhere], lr=0.1)
    for _ in range(60):
        sites = Sites(
            logits, ROWS, SPECIES, torch.ones(4, dtype=torch.float64), elsewhere, BACKGROUNDS[background], frequency
        )
        loss = LOSSES[name](sites)
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
    frequency = torch.full((6,), 0.5)
    loss = LOSSES[name](Sites(logits, ROWS, SPECIES, torch.ones(4), logits.detach()[:2], 0.5, frequency))
    loss.backward()
    assert math.isfinite(loss.item()) and logits.grad is not None and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_no_background_and_no_presence_are_fine(name: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    frequency = torch.full((6,), 0.5)
    sites = Sites(torch.zeros(4, 6), none, none, torch.ones(4), torch.zeros(0, 6), 1.0, frequency)
    assert math.isfinite(LOSSES[name](sites).item())


def test_class_weights_weigh_presences_only() -> None:
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0], dtype=torch.float64)
    plain, weighted = make_sites(), make_sites(class_weight_S=weights)
    terms = functional.softplus(-plain.logits_BS[ROWS, SPECIES])
    extra = ((weights[SPECIES] - 1) * terms).sum() / 4
    assert (LOSSES["bce"](weighted) - LOSSES["bce"](plain)).item() == pytest.approx(extra.item(), abs=1e-12)


def test_silence_counts_species_that_are_not_listed() -> None:
    sites = make_sites()
    counted = silence(sites, torch.ones_like)
    assert counted.item() == pytest.approx(np.mean([6 - len(row) for row in SETS]))


def test_full_weighted_says_that_it_needs_frequencies() -> None:
    with pytest.raises(ValueError, match="frequency_S"):
        LOSSES["full_weighted"](make_sites())
