"""Losses of multi-label species models, from sparse labels: for plots, and for presence-only records.

All have one signature, ``loss(sites) -> ()``, and one form: what is present counts, and so does silence, at the rows
themselves (the **target-group** background of Phillips et al. 2009: the sites where any plant was recorded), at
background sites drawn evenly (the **random** background), or at both. The losses differ in how much each counts.

All are sums over species, and of means over rows. So they can be taken over a part of the species, or of the rows, and
the parts added up: see :mod:`releve.train.head_loss` for the first, and ``num_rows`` for the second.
"""

# B rows, K background sites, S species, P presences

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from releve.train.processes import log_sum_exp_over_ranks


@dataclass(frozen=True)
class Sites:
    """What a loss is given.

    Parameters
    ----------
    logits_BS
        Logits of the labelled rows.
    label_rows, label_species
        (P,) index pairs of the species present.
    trust_B
        How far each row's silence is trusted, 0 to 1; None: wholly, as on a plot.
    background_KS
        Logits of background sites, where nothing is known to grow; None without them.
    own_share
        Weight of the rows' own silence against that of the background: 1 target-group, 0 random.
    frequency_S
        Share of the training rows that have each species, above 0; needed by ``full_weighted`` only.
    class_weight_S
        Weight of each species' presences; None: all 1.
    num_rows, num_background
        Rows and sites that means are taken over, where these are a part of them; by default their own numbers.
    num_species
        All species, where these are a part of them.
    picked_P
        Logits of the presences, where they were looked up already.
    """

    logits_BS: Tensor
    label_rows: Tensor
    label_species: Tensor
    trust_B: Tensor | None = None
    background_KS: Tensor | None = None
    own_share: float = 1.0
    frequency_S: Tensor | None = None
    class_weight_S: Tensor | None = None
    num_rows: int | None = None
    num_background: int | None = None
    num_species: int | None = None
    picked_P: Tensor | None = None

    @cached_property
    def present(self) -> Tensor:
        """(P,) logits of the presences."""
        return self.picked_P if self.picked_P is not None else self.logits_BS[self.label_rows, self.label_species]

    def sum_present(self, values_P: Tensor) -> Tensor:
        """Return the sum over presences, weighted by class, for each row."""
        if self.class_weight_S is not None:
            values_P = values_P * self.class_weight_S[self.label_species]
        return values_P.sum() / self.over_rows

    @property
    def over_rows(self) -> int:
        """What sums over rows are divided by."""
        return self.num_rows or len(self.logits_BS) or 1

    @property
    def over_background(self) -> int:
        """What sums over background sites are divided by."""
        assert self.background_KS is not None
        return self.num_background or len(self.background_KS) or 1


def silence(
    sites: Sites, term: Callable[[Tensor], Tensor], *, trust_B: Tensor | None = None, weight_S: Tensor | None = None
) -> Tensor:
    """Return the mean over sites of a term summed over the species that are silent there.

    Parameters
    ----------
    sites
        Rows and background.
    term
        Loss of one silent species, elementwise in its logit.
    trust_B
        Weight of each row; None: 1.
    weight_S
        Weight of each species; None: 1.
    """
    total = sites.logits_BS.new_zeros(())
    if sites.own_share > 0:
        all_BS, present_P = term(sites.logits_BS), term(sites.present)
        if weight_S is not None:
            all_BS, present_P = all_BS * weight_S, present_P * weight_S[sites.label_species]
        if trust_B is None:
            own = all_BS.sum() - present_P.sum()
        else:
            own = (trust_B * all_BS.sum(dim=1)).sum() - (trust_B[sites.label_rows] * present_P).sum()
        total = total + sites.own_share * own / sites.over_rows
    if sites.own_share < 1 and sites.background_KS is not None and len(sites.background_KS):
        all_KS = term(sites.background_KS)
        if weight_S is not None:
            all_KS = all_KS * weight_S
        total = total + (1 - sites.own_share) * all_KS.sum() / sites.over_background
    return total


def bce(sites: Sites) -> Tensor:
    """Return the binary cross-entropy, summed over species and averaged over rows.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    >>> dense = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> ours = bce(Sites(logits, torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1])))
    >>> theirs = functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / 2
    >>> torch.allclose(ours, theirs)
    True
    """
    return sites.sum_present(functional.softplus(-sites.present)) + silence(sites, functional.softplus)


def trusted_bce(sites: Sites) -> Tensor:
    """Return the binary cross-entropy in which a pseudo-plot's silence counts as far as it is trusted.

    Examples
    --------
    With no trust at all, only the presence counts:

    >>> sites = Sites(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]), trust_B=torch.zeros(1))
    >>> round(trusted_bce(sites).item(), 4)
    0.6931
    """
    silent = silence(sites, functional.softplus, trust_B=sites.trust_B)
    return sites.sum_present(functional.softplus(-sites.present)) + silent


AN_FULL_POSITIVE_WEIGHT = 2048.0


def assume_negative_full(sites: Sites) -> Tensor:
    """Return the loss of SINR: presences up-weighted, silence at the row and at another site.

    References
    ----------
    Cole et al. (2023), Spatial implicit neural representations for global-scale species mapping, L_AN-full with
    lambda = 2048. Divided by lambda here, so that its size is that of the other losses; with ``own_share`` .5 it is
    the published one.
    """
    silent = 2 * silence(sites, functional.softplus)
    return sites.sum_present(functional.softplus(-sites.present)) + silent / AN_FULL_POSITIVE_WEIGHT


def full_weighted(sites: Sites) -> Tensor:
    """Return the cross-entropy in which every species' presences weigh as much as its silence.

    References
    ----------
    Zbinden et al. (2024), On the selection and effectiveness of pseudo-absences for species distribution modeling
    with deep learning: ``w_s = n / n_present(s)`` for a presence, ``lam2 / (1 - 1 / w_s)`` for silence at the rows,
    ``1 - lam2`` at random sites; ``own_share`` is lam2 (.8 there). Divided by the number of species.
    """
    if sites.frequency_S is None:
        raise ValueError("full_weighted needs frequency_S")
    own, background = sites.own_share, sites.background_KS
    frequency_S = sites.frequency_S.clamp(max=0.999)
    total = sites.sum_present(functional.softplus(-sites.present) / frequency_S[sites.label_species])
    rows = replace(sites, own_share=1.0)
    total = total + own * silence(rows, functional.softplus, weight_S=1 / (1 - frequency_S))
    if background is not None and len(background):
        total = total + (1 - own) * functional.softplus(background).sum() / sites.over_background
    return total / (sites.num_species or len(frequency_S))


def deep_maxent(sites: Sites) -> Tensor:
    """Return the negative log-likelihood of where each species was found among the sites of the batch.

    References
    ----------
    Ryckewaert et al. (2024), Applying the maximum entropy principle to neural networks enhances multi-species
    distribution models: ``-(counts * log_softmax(logits, over sites)).mean()``. With background sites, the softmax's
    sum is ``own_share`` over the rows and the rest over the background.
    """
    parts = []
    if sites.own_share > 0:
        parts.append(log_mean_exp(sites.logits_BS, sites.over_rows) + math.log(sites.own_share))
    if sites.own_share < 1 and sites.background_KS is not None and (sites.num_background or len(sites.background_KS)):
        parts.append(log_mean_exp(sites.background_KS, sites.over_background) + math.log(1 - sites.own_share))
    log_mean_S = torch.logsumexp(torch.stack(parts), dim=0)
    return sites.sum_present(log_mean_S[sites.label_species] - sites.present)


GAMMA_NEGATIVE, CLIP = 4.0, 0.02


def asymmetric(sites: Sites) -> Tensor:
    """Return the asymmetric loss: easy silence hardly counts.

    References
    ----------
    Ridnik et al. (2021), Asymmetric loss for multi-label classification: gamma_neg 4, clip .02, gamma_pos 0.
    """

    def easy(logits: Tensor) -> Tensor:
        shifted = (torch.sigmoid(logits) - CLIP).clamp(min=0)
        return -(shifted**GAMMA_NEGATIVE) * torch.log1p(-shifted.clamp(max=1 - 1e-6))

    return sites.sum_present(functional.softplus(-sites.present)) + silence(sites, easy)


def log_mean_exp(logits: Tensor, num_rows: int) -> Tensor:
    """Return (S,) log of the mean over rows, those of all processes, of exp."""
    return log_sum_exp_over_ranks(torch.logsumexp(logits, dim=0)) - math.log(num_rows)


LOSSES: dict[str, Callable[[Sites], Tensor]] = {
    "bce": bce,
    "trusted_bce": trusted_bce,
    "an_full": assume_negative_full,
    "full_weighted": full_weighted,
    "deep_maxent": deep_maxent,
    "asymmetric": asymmetric,
}


BACKGROUNDS = {"target_group": 1.0, "mixed": 0.5, "random": 0.0}
"""Share of the rows' own silence under each background."""
