"""Published losses of multi-label species models, beside the cross-entropy that is the default.

All have one signature, ``loss(chunk, silence_N, num_labelled, frequency_S) -> ()``, and one form: what is present
counts, and so does silence, at the rows themselves (the **target-group** background of Phillips et al. 2009: the sites
where any plant was recorded), at background sites drawn evenly (the **random** background), or at both. The losses
differ in how much each counts. ``silence_N`` holds the weights of the rows' silence: ``own_share / num_rows`` for the
first ``num_labelled`` of them, ``(1 - own_share) / num_background`` for the others, which are background sites; a
presence's weight is ``1 / num_rows``. So all are sums, and can be taken over a part of the species, or of the rows,
and added up.
"""

# N rows, S species, C species of one chunk, P presences

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from releve.data.statistics import Statistics
from releve.train.head_loss import Chunk, cross_entropy
from releve.train.processes import processes


def plain(chunk: Chunk, silence_N: Tensor, num_labelled: int, frequency_S: Tensor) -> Tensor:
    """Return the cross-entropy."""
    return cross_entropy(chunk, silence_N)


def assume_negative_full(chunk: Chunk, silence_N: Tensor, num_labelled: int, frequency_S: Tensor) -> Tensor:
    """Return the loss of SINR: presences up-weighted, silence at the row and at another site.

    References
    ----------
    Cole et al. (2023), Spatial implicit neural representations for global-scale species mapping, L_AN-full with
    lambda = 2048. Divided by lambda here, so that its size is that of the other losses; with an ``own_share`` of .5 it
    is the published one.
    """
    return cross_entropy(chunk, silence_N * (2 / AN_FULL_POSITIVE_WEIGHT))


AN_FULL_POSITIVE_WEIGHT = 2048.0


def full_weighted(chunk: Chunk, silence_N: Tensor, num_labelled: int, frequency_S: Tensor) -> Tensor:
    """Return the cross-entropy in which every species' presences weigh as much as its silence.

    References
    ----------
    Zbinden et al. (2024), On the selection and effectiveness of pseudo-absences for species distribution modeling
    with deep learning: ``w_s = n / n_present(s)`` for a presence, ``lam2 / (1 - 1 / w_s)`` for silence at the rows,
    ``1 - lam2`` at random sites; ``own_share`` is lam2 (.8 there). Divided by the number of species.
    """
    frequency_S = frequency_S.clamp(max=0.999)
    frequency_C = frequency_S[chunk.first : chunk.first + chunk.logits_NC.shape[1]]
    frequency_P = frequency_S[chunk.species_P]
    all_NC, present_P = functional.softplus(chunk.logits_NC), functional.softplus(chunk.logits_P)
    present = chunk.weight_P @ (functional.softplus(-chunk.logits_P) / frequency_P)
    rows_N = all_NC[:num_labelled] @ (1 / (1 - frequency_C))
    silent = silence_N[:num_labelled] @ rows_N - silence_N[chunk.rows_P] @ (present_P / (1 - frequency_P))
    elsewhere = silence_N[num_labelled:] @ all_NC[num_labelled:].sum(dim=1)
    return (present + silent + elsewhere) / len(frequency_S)


def deep_maxent(chunk: Chunk, silence_N: Tensor, num_labelled: int, frequency_S: Tensor) -> Tensor:
    """Return the negative log-likelihood of where each species was found among the sites of the step.

    References
    ----------
    Ryckewaert et al. (2024), Applying the maximum entropy principle to neural networks enhances multi-species
    distribution models: ``-(counts * log_softmax(logits, over sites)).mean()``. Here the softmax's sum is a mean, over
    rows and background sites by their shares.
    """
    weighted_NC = chunk.logits_NC + silence_N.clamp(min=NOTHING).log()[:, None]
    log_mean_C = processes().log_sum_exp(torch.logsumexp(weighted_NC, dim=0))
    return chunk.weight_P @ (log_mean_C[chunk.species_P - chunk.first] - chunk.logits_P)


NOTHING = 1e-37
"""Weight of a site that is left out of the softmax: its log is a number, unlike that of 0."""


def asymmetric(chunk: Chunk, silence_N: Tensor, num_labelled: int, frequency_S: Tensor) -> Tensor:
    """Return the asymmetric loss: easy silence hardly counts.

    References
    ----------
    Ridnik et al. (2021), Asymmetric loss for multi-label classification: gamma_neg 4, clip .02, gamma_pos 0.
    """

    def easy(logits: Tensor) -> Tensor:
        shifted = (torch.sigmoid(logits) - CLIP).clamp(min=0)
        return -(shifted**GAMMA_NEGATIVE) * torch.log1p(-shifted.clamp(max=1 - 1e-6))

    present = chunk.weight_P @ functional.softplus(-chunk.logits_P)
    silent = silence_N @ easy(chunk.logits_NC).sum(dim=1)
    return present + silent - silence_N[chunk.rows_P] @ easy(chunk.logits_P)


GAMMA_NEGATIVE, CLIP = 4.0, 0.02

LOSSES: dict[str, Callable[[Chunk, Tensor, int, Tensor], Tensor]] = {
    "bce": plain,
    "trusted_bce": plain,  # the weights of silence say how far it is trusted
    "an_full": assume_negative_full,
    "full_weighted": full_weighted,
    "deep_maxent": deep_maxent,
    "asymmetric": asymmetric,
}


class PublishedLoss(nn.Module):
    """The loss of the plots and that of the presence-only rows, each by its name in :data:`LOSSES`, added up."""

    frequency_S: Tensor
    record_frequency_S: Tensor

    def __init__(self, statistics: Statistics, plots: str, records: str) -> None:
        """Look up the losses and how frequent the species are."""
        super().__init__()
        self.of_plots, self.of_records = LOSSES[plots], LOSSES[records]
        frequency = share_of(statistics.num_positives, statistics.num_rows)
        self.register_buffer("frequency_S", frequency)
        """Share of the training plots that have each species; without plots, of the presence-only rows."""
        recorded = statistics.record_positives
        self.register_buffer(
            "record_frequency_S", share_of(recorded, statistics.num_records) if recorded else frequency
        )
        """Share of the presence-only rows that have each species."""

    def forward(self, chunk: Chunk, silence_N: Tensor, sources: Sources) -> Tensor:
        """Return the loss of a chunk; a row weighs nothing in the loss of the other source."""
        is_plot_N = torch.arange(len(silence_N), device=silence_N.device) < sources.num_plots
        total = silence_N.new_zeros(())
        if sources.has_plots:
            ours = replace(chunk, weight_P=chunk.weight_P * is_plot_N[chunk.rows_P])
            total = total + self.of_plots(ours, silence_N * is_plot_N, sources.num_plots, self.frequency_S)
        if sources.has_records:
            theirs = replace(chunk, weight_P=chunk.weight_P * ~is_plot_N[chunk.rows_P] / sources.record_weight)
            silence_N = silence_N * ~is_plot_N / sources.record_weight
            loss = self.of_records(theirs, silence_N, sources.num_labelled, self.record_frequency_S)
            total = total + sources.record_weight * loss
        return total


@dataclass(frozen=True)
class Sources:
    """Which rows are plots (the first), which presence-only rows (up to ``num_labelled``), which background sites."""

    num_plots: int
    num_labelled: int
    has_plots: bool
    """Whether any process has some in this step, as ``has_records``."""
    has_records: bool
    record_weight: float
    """What the weights of the presence-only rows were multiplied by."""


def share_of(num_positives: list[int], num_rows: int) -> Tensor:
    """Return (S,) shares of rows that have each species, never 0 or 1."""
    return (torch.tensor(num_positives) + 0.5) / (num_rows + 1.0)
