"""A small network for records: where each species was found, and which species was found at each place."""

# B batch, N training rows, M rows of a step, R random places of a step, F features, S species

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics
from releve.models.background import background_of
from releve.models.places import EvenColumns

NUM_NETS = 2
"""Networks whose logits are averaged."""
WIDTH = 128
DROPOUT = 0.5
EPOCHS = 40
BATCH_SIZE, LEAST_STEPS = 1024, 3
"""Places of a step, and fewest steps of an epoch."""
NUM_RANDOM = 256
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 2e-3, 1e-2, 0.1
MOST_FOR_SHIFT = 2000
"""Places on which the logits are brought to the species' shares."""


class SoftmaxModel(nn.Module):
    """Mean logits of some networks, shifted to each species' share of the places."""

    shift_S: Tensor

    def __init__(self, statistics: Statistics, tensors: dict[str, Tensor]) -> None:
        """Make a model of what was fitted, or of what was saved."""
        super().__init__()
        self.statistics, self.modalities = statistics, tuple(statistics.tables)
        self.columns = EvenColumns(statistics)
        num_features, num_species = tensors["nets.0.0.weight"].shape[1], len(statistics.species_ids)
        self.nets = nn.ModuleList(make_net(num_features, num_species) for _ in range(NUM_NETS))
        self.register_buffer("shift_S", torch.zeros(num_species))
        self.load_state_dict(tensors)
        self.eval()  # a model that is read is not trained on

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Return (B, S) float32 logits."""
        features_BF = torch.nan_to_num(torch.cat(self.columns.of(batch), dim=1))
        return torch.stack([net(features_BF) for net in self.nets]).mean(dim=0) + self.shift_S


def make_net(num_features: int, num_species: int) -> nn.Sequential:
    """Return a network of two layers that all species share."""
    layers: list[nn.Module] = []
    for width in (num_features, WIDTH):
        layers += [nn.Linear(width, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, num_species))


def fit_softmax(gatherer: Gatherer, rows: NDArray[np.int64], statistics: Statistics, *, seed: int) -> SoftmaxModel:
    """Return networks fitted to the sum of :func:`where_found` and :func:`which_found`.

    Parameters
    ----------
    gatherer, rows
        What gathers the training rows, and where they are.
    statistics
        Those of the training rows.
    seed
        Of weights, steps and dropout.
    """
    store = gatherer.store
    known = background_of(store.is_random[rows], is_target_group=store.is_target_group)
    features_NF = torch.nan_to_num(torch.cat(EvenColumns(statistics).of(gatherer.batch(rows)), dim=1))
    found = store.labels.take(rows[known.sites]).to_csr(len(statistics.species_ids)).astype(np.float32)
    sites_NF, random_NF = features_NF[known.sites], features_NF[known.random]
    tensors: dict[str, Tensor] = {}
    for number in range(NUM_NETS):
        with one_thread(), torch.random.fork_rng(devices=[]):  # weights and dropout take the global stream
            torch.manual_seed(1000 * seed + number)
            net = make_net(features_NF.shape[1], found.shape[1])
            _train(net, sites_NF, random_NF, found, known.random_share, np.random.default_rng([seed, number]))
        tensors |= {f"nets.{number}.{name}": value for name, value in net.state_dict().items()}
    model = SoftmaxModel(statistics, tensors | {"shift_S": torch.zeros(found.shape[1])})
    some = known.sites[np.random.default_rng(seed).permutation(len(known.sites))[:MOST_FOR_SHIFT]]
    share_S = torch.from_numpy(np.asarray(found.mean(axis=0)).ravel()).clamp(1e-6, 1 - 1e-6)
    model.shift_S.copy_(shift_to(share_S, model(gatherer.batch(rows[some]))))
    return model


def _train(
    net: nn.Module,
    sites_NF: Tensor,
    random_NF: Tensor,
    found: object,
    share: float,
    rng: np.random.Generator,
) -> None:
    """Take the steps of a network, whose rate rises and falls in one cycle."""
    num_rows = min(len(sites_NF), BATCH_SIZE)
    num_steps = EPOCHS * max(len(sites_NF) // num_rows, LEAST_STEPS)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=num_steps, pct_start=WARMUP)
    num_random = NUM_RANDOM if len(random_NF) else 0
    for _ in range(num_steps):
        chosen = rng.permutation(len(sites_NF))[:num_rows]
        drawn = rng.integers(0, len(random_NF), num_random) if num_random else np.zeros(0, np.int64)
        logits = net(torch.cat([sites_NF[chosen], random_NF[drawn]]))
        found_MS = torch.from_numpy(found[chosen].toarray())  # type: ignore[index]
        loss = where_found(logits[:num_rows], found_MS, logits[num_rows:], share)
        (loss + which_found(logits[:num_rows], found_MS)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rate.step()
    net.eval()


def where_found(logits_MS: Tensor, found_MS: Tensor, random_RS: Tensor, share: float) -> Tensor:
    """Return the negative log-likelihood of where each species was found among the places, and random ones.

    It is the mean over a species' places, then over species with the root of their number as weight.

    Parameters
    ----------
    logits_MS, found_MS
        Of places at which something was recorded: logits, and 1 for what it was.
    random_RS
        Logits of random places.
    share
        What these weigh of all.

    References
    ----------
    Ryckewaert et al. (2024), Applying the maximum entropy principle to neural networks enhances multi-species
    distribution models, arXiv:2412.19217.

    Examples
    --------
    Two places, alike: the species was found at one of them.

    >>> round(float(where_found(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]), torch.zeros(0, 1), 0.0)), 4)
    0.6931
    """
    if len(random_RS):
        weight = share / max(1 - share, 1e-6) * len(logits_MS) / len(random_RS)
        together = torch.cat([logits_MS, random_RS + np.log(max(weight, 1e-9))])
    else:
        together = logits_MS
    num_S = found_MS.sum(dim=0)
    mean_S = (found_MS * (torch.logsumexp(together, dim=0) - logits_MS)).sum(dim=0) / num_S.clamp(min=1)
    return (mean_S * num_S.sqrt()).sum() / num_S.sqrt().sum().clamp(min=1)


def which_found(logits_MS: Tensor, found_MS: Tensor) -> Tensor:
    """Return the negative log-likelihood of which species a record at a place is: nothing but the records is needed.

    Examples
    --------
    >>> round(float(which_found(torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 0.0, 1.0]]))), 4)
    1.3863
    """
    total_M1 = torch.logsumexp(logits_MS, dim=1, keepdim=True)
    return (found_MS * (total_M1 - logits_MS)).sum() / found_MS.sum().clamp(min=1)


def shift_to(share_S: Tensor, logits_MS: Tensor) -> Tensor:
    """Return what is to be added to each species' logits for their mean probability to be its share, by bisection.

    Examples
    --------
    >>> shift_to(torch.tensor([0.5, 0.5]), torch.tensor([[1.0, -2.0], [3.0, -2.0]])).round(decimals=3).tolist()
    [-2.0, 2.0]
    """
    low_S, high_S = torch.full_like(share_S, -50.0), torch.full_like(share_S, 50.0)
    for _ in range(40):
        middle_S = (low_S + high_S) / 2
        is_high_S = torch.sigmoid(logits_MS + middle_S).mean(dim=0) > share_S
        low_S, high_S = torch.where(is_high_S, low_S, middle_S), torch.where(is_high_S, middle_S, high_S)
    return ((low_S + high_S) / 2).float()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in one thread: on a shared machine threads within small operations wait for one another."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
