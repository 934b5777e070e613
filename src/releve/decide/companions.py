"""Which species grow together, beyond what their environment says: what is seen on a plot foretells the rest.

Two plots that look alike in every covariate may be a meadow and a wood. Take what the covariates do not tell to be K
hidden properties u of a plot, standard normal and independent, and let species s grow there if

    z_s sqrt(1 + |a_s|^2) + a_s u + e > 0,    z_s = Phi^-1(p_s),  e standard normal.

Its chance is then p_s as long as nothing is known of u, whatever the vector a_s: where nothing is seen, nothing
changes. n seen species are taken as draws with chances in proportion to p_s exp(a_s u), so that it does not matter how
many were written down, only which. One Newton step from u = 0 gives their message: with A = sum of the a_s of the seen
species, m and C the mean and covariance of all a_s weighted by p_s, and c the weight of a sighting,

    V = (I + c n C)^-1,    u has mean v = c V (A - n m) and covariance V,
    q_s = Phi((z_s sqrt(1 + |a_s|^2) + a_s v) / sqrt(1 + a_s V a_s)).

So much for which species are seen. How many are seen says two things more. Messages of many sightings decide more than
one step tells, or less: the logits of the rest are multiplied by n^g. And that a species is not among the seen speaks
against it, the more so the more of the expected R = p_1 + ... + p_S species are seen: its odds are then multiplied by
exp(b_0) / (1 + exp(b_1 + b_2 log(n / R))).

The vectors are those that foretell best what was hidden of held-out surveys, after a random share of each one's species
was given; c, b and g are those that do it best where the vectors were not learned, on blocks kept aside.
"""

# N surveys, B surveys of a batch, S species, P sightings (pairs of survey and species), K hidden properties

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from releve.decide.weights import SAMPLE_SURVEYS
from releve.errors import TableError
from releve.files import atomic_path
from releve.lists import Lists
from releve.progress import track

NUM_PROPERTIES = 16
PRIOR = 30.0
"""Half the precision of the vectors' normal prior: few surveys leave them short, and seen species then say little."""
START = 0.05
BATCH_SIZE, NUM_EPOCHS, MIN_STEPS = 128, 10, 300
LEARNING_RATE = 0.02
KEPT_SHARE = 0.2
NUM_LAST_STEPS, LAST_RATE = 100, 0.05
FLOOR = 1e-7
"""Probabilities of 0 and 1 are moved in by this, for their quantiles to be finite."""


@dataclass(frozen=True, eq=False)
class Companions:
    """What seen species say of the others; see the module's text.

    Parameters
    ----------
    vectors_SK
        The a_s.
    log_weight
        (1,) log c.
    thinning
        (3,) b_0, b_1, b_2.
    sharpness
        (1,) g.
    """

    vectors_SK: Tensor
    log_weight: Tensor
    thinning: Tensor
    sharpness: Tensor

    def update(self, probs_BS: Tensor, seen: Lists) -> Tensor:
        """Return the probabilities given what was seen: 1 for these species; surveys where nothing was seen stay.

        Parameters
        ----------
        probs_BS
            Calibrated probabilities of what may be there, on any device.
        seen
            What was seen, for each of the B surveys; the order of sightings is of no matter.

        Raises
        ------
        TableError
            If the numbers of surveys or species differ.

        Examples
        --------
        Two species that grow together and one that shuns them, each on a third of the plots; the first is seen:

        >>> together = torch.tensor([[1.0], [1.0], [-1.0]])
        >>> companions = Companions(together, torch.zeros(1), torch.tensor([0.0, -9.0, 0.0]), torch.zeros(1))
        >>> companions.update(torch.full((2, 3), 1 / 3), Lists.from_rows([[0], []])).mul(100).round().tolist()
        [[100.0, 42.0, 22.0], [33.0, 33.0, 33.0]]
        """
        if seen.num_surveys != len(probs_BS) or probs_BS.shape[1] != len(self.vectors_SK):
            raise TableError(
                f"what was seen on {seen.num_surveys} surveys, and probabilities of {tuple(probs_BS.shape)}",
                expected=f"the same surveys, and {len(self.vectors_SK)} species",
            )
        told = np.flatnonzero(seen.lengths())
        if not len(told):
            return probs_BS
        given, device = seen.take(told), probs_BS.device
        if given.indices.max() >= probs_BS.shape[1]:
            raise TableError(f"species index {given.indices.max()} was seen", expected=f"under {probs_BS.shape[1]}")
        at = torch.from_numpy(told).to(device)
        row_P, species_P = (torch.from_numpy(x.astype(np.int64)).to(device) for x in (given.surveys(), given.indices))
        ours = Companions(**{name: value.to(device) for name, value in vars(self).items()})
        rest_BS = torch.sigmoid(ours.rest_logits(probs_BS[at].float(), row_P, species_P)).to(probs_BS.dtype)
        rest_BS[row_P, species_P] = 1.0
        return probs_BS.index_copy(0, at, rest_BS)

    def rest_logits(self, probs_BS: Tensor, row_P: Tensor, species_P: Tensor) -> Tensor:
        """Return (B, S) logits given sightings, one or more in each row; those of seen species mean nothing."""
        (num_rows, num_species), size = probs_BS.shape, self.vectors_SK.shape[1]
        probs_BS = probs_BS.clamp(FLOOR, 1 - FLOOR)
        vectors_SK = self.vectors_SK
        squares_SKK = (vectors_SK[:, :, None] * vectors_SK[:, None, :]).reshape(num_species, size * size)
        ones_P = probs_BS.new_ones(len(row_P))
        num_seen_B = probs_BS.new_zeros(num_rows).index_add(0, row_P, ones_P)
        sum_BK = probs_BS.new_zeros(num_rows, size).index_add(0, row_P, vectors_SK.index_select(0, species_P))
        expected_B = probs_BS.sum(dim=1)
        share_BS = probs_BS / expected_B[:, None]
        mean_BK = share_BS @ vectors_SK
        cov_BKK = (share_BS @ squares_SKK).view(num_rows, size, size) - mean_BK[:, :, None] * mean_BK[:, None, :]
        weight = self.log_weight.exp()
        precision_BKK = torch.eye(size, device=probs_BS.device) + (weight * num_seen_B)[:, None, None] * cov_BKK
        variance_BKK = torch.linalg.inv(precision_BKK)
        found_BK = (variance_BKK @ (weight * (sum_BK - num_seen_B[:, None] * mean_BK))[:, :, None]).squeeze(2)
        spread_BS = variance_BKK.reshape(num_rows, size * size) @ squares_SKK.T
        quantile_BS = torch.special.ndtri(probs_BS) * (1 + vectors_SK.square().sum(dim=1)).sqrt()
        score_BS = (quantile_BS + found_BK @ vectors_SK.T) / (1 + spread_BS.clamp(min=0)).sqrt()
        lift, start, rate = self.thinning
        unlisted_B = lift - functional.softplus(start + rate * (num_seen_B / expected_B).log())
        logits_BS = torch.special.log_ndtr(score_BS) - torch.special.log_ndtr(-score_BS)
        return logits_BS * num_seen_B[:, None] ** self.sharpness + unlisted_B[:, None]


def fit_companions(probs_NS: Tensor, truth: Lists, blocks: NDArray[np.int64], *, seed: int = 0) -> Companions | None:
    """Return what seen species say of the others, learned from held-out surveys; None if none has two species.

    In every step each survey gives a random share of its species, uniform between none and all, and what is left is
    foretold: the loss is the cross-entropy of all species that are not given. With the normal prior of the vectors it
    is a penalised likelihood. So any number seen, few or nearly all, is learned. A fifth of the surveys, as whole
    blocks, is kept for the few numbers that say how far the vectors are to be believed.

    Parameters
    ----------
    probs_NS
        Calibrated probabilities, each by members that were not trained on the survey.
    truth
        The N observed sets. Of more surveys than ``releve.decide.weights.SAMPLE_SURVEYS`` some are drawn.
    blocks
        (N,) block of each survey.
    seed
        Of the vectors' start, the order of surveys, the blocks kept aside and what is hidden.

    References
    ----------
    Pollock, Tingley, Morris, Golding, O'Hara, Parris, Vesk & McCarthy (2014), Understanding co-occurrence by modelling
    species simultaneously with a joint species distribution model, Methods in Ecology and Evolution 5, 397-406,
    doi:10.1111/2041-210X.12180.
    Wilkinson, Golding, Guillera-Arroita, Tingley & McCarthy (2021), Defining and evaluating predictions of joint
    species distribution models, Methods in Ecology and Evolution 12, 394-404, doi:10.1111/2041-210X.13518.
    """
    random = torch.Generator().manual_seed(seed)
    known = truth.to_csr(probs_NS.shape[1])
    rows = torch.from_numpy(np.flatnonzero(known.getnnz(axis=1) >= 2))
    rows = rows[torch.randperm(len(rows), generator=random)[:SAMPLE_SURVEYS]]
    if not len(rows):
        return None
    vectors_SK = START * torch.randn(probs_NS.shape[1], NUM_PROPERTIES, generator=random)
    fitted = Companions(vectors_SK, torch.zeros(1), torch.tensor([0.0, -0.7, 1.0]), torch.zeros(1))

    def learn(values: list[Tensor], rows: Tensor, num_steps: int, rate: float, penalty: float) -> None:
        optimizer = torch.optim.Adam([value.requires_grad_() for value in values], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        num_rounds = -(-num_steps * BATCH_SIZE // len(rows))
        order = torch.cat([rows[torch.randperm(len(rows), generator=random)] for _ in range(num_rounds)])
        for step in track(range(num_steps), "what grows together", total=num_steps):
            batch = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
            there_BS = torch.from_numpy(known[batch.numpy()].toarray()).bool()
            share_B1 = torch.rand(len(batch), 1, generator=random)
            given_BS = there_BS & (torch.rand(there_BS.shape, generator=random) < share_B1)
            told = given_BS.any(dim=1)
            given_BS, there_BS, probs_BS = given_BS[told], there_BS[told], probs_NS[batch[told]].float()
            logits_BS = fitted.rest_logits(probs_BS, *given_BS.nonzero(as_tuple=True))
            losses_BS = functional.binary_cross_entropy_with_logits(logits_BS, there_BS.float(), reduction="none")
            loss = losses_BS.masked_fill(given_BS, 0).sum() / len(given_BS)
            (loss + penalty / len(rows) * vectors_SK.square().sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    kept = keep_aside(torch.from_numpy(blocks)[rows], random)
    num_steps = max(MIN_STEPS, NUM_EPOCHS * len(rows) // BATCH_SIZE)
    learn([vectors_SK, fitted.log_weight, fitted.thinning], rows[~kept], num_steps, LEARNING_RATE, PRIOR)
    vectors_SK.requires_grad_(False)
    learn([fitted.log_weight, fitted.thinning, fitted.sharpness], rows[kept], NUM_LAST_STEPS, LAST_RATE, 0.0)
    return Companions(**{name: value.detach() for name, value in vars(fitted).items()})


def keep_aside(blocks_N: Tensor, random: torch.Generator) -> Tensor:
    """Return which surveys are kept aside: whole blocks drawn until a fifth is reached; all if there is one block only.

    Examples
    --------
    >>> keep_aside(torch.tensor([7, 7, 7, 7, 9, 9, 9, 9]), torch.Generator().manual_seed(0)).sum()
    tensor(4)
    """
    different, block_N, sizes = blocks_N.unique(return_inverse=True, return_counts=True)
    if len(different) == 1:
        return torch.ones_like(blocks_N, dtype=torch.bool)
    order = torch.randperm(len(different), generator=random)
    before = sizes[order].cumsum(0) - sizes[order]
    drawn = order[before < KEPT_SHARE * len(blocks_N)][: len(different) - 1]
    return torch.isin(block_N, drawn)


def write_companions(path: Path, companions: Companions) -> None:
    """Write ``vectors_SK``, ``log_weight``, ``thinning`` and ``sharpness`` as safetensors; whole or absent."""
    with atomic_path(path) as partial:
        save_file({name: value.contiguous() for name, value in vars(companions).items()}, partial)


def read_companions(path: Path) -> Companions:
    """Return what :func:`write_companions` wrote."""
    return Companions(**load_file(path))
