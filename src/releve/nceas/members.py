"""The models that are blended: smooth regressions, networks shared by all species, down-sampled forests.

Each takes the matrices of a region and returns one (plots, species) table of scores per test set; only the order of
the scores of one species means anything. All see the target-group background: the other sites of the same survey
group, with a share of random ones.
"""

# N sites, S species, F features

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from torch import Tensor, nn

from releve.nceas.design import Design

NUM_RANDOM = 256  # random sites in a batch of a network
OUTSIDE = -1e9  # logit of a species at another group's site; finite, as a batch may hold no site of a group

Scores = list[np.ndarray]
Member = Callable[[Design, int], Scores]


def hinge_regression(design: Design, seed: int, *, inverse_penalty: float = 0.03) -> Scores:
    """Return the scores of one penalised logistic regression a species on hinge features.

    The features are those of MaxEnt: each covariate, its square and forward hinges; presences and background weigh
    the same in total, so the penalty's strength relative to the likelihood falls with the number of records.

    References
    ----------
    Fithian & Hastie (2013), Finite-sample equivalence in statistical models for presence-only data,
    https://doi.org/10.1214/13-AOAS667.
    """
    sites, background, tests = _standardised(
        [_hinges(x, design) for x in (design.sites_NF, design.background_NF, *design.tests)]
    )
    background = background[_some_rows(background, 3000, seed)]

    def fit(species: int) -> np.ndarray:
        found, others = design.target_group(species)
        if not len(found):
            return np.zeros(sites.shape[1])
        share = design.random_share_G[design.species_group[species]]
        x = np.concatenate([sites[found], sites[others], background])
        weight = np.concatenate([
            np.ones(len(found)),
            np.full(len(others), len(found) * (1 - share) / max(len(others), 1)),
            np.full(len(background), len(found) * share / len(background)),
        ])  # fmt: skip
        used = weight > 0
        label = np.arange(len(x)) < len(found)
        model = LogisticRegression(C=inverse_penalty, max_iter=200, tol=1e-3)
        return model.fit(x[used], label[used], sample_weight=weight[used]).coef_[0]

    coefficients = np.stack(_each(fit, range(design.found_NS.shape[1])), axis=1)
    return [test @ coefficients for test in tests]


def network(
    design: Design, seed: int, *, loss: str, width: int = 128, dropout: float = 0.5, epochs: int = 40, nets: int = 3
) -> Scores:
    """Return the mean logits of some networks whose hidden layers all species share.

    Parameters
    ----------
    loss
        A name in ``LOSSES``.
    width, dropout, epochs
        Of two hidden layers; passes over the sites.
    nets
        How many networks to average.
    """
    sites, background = torch.from_numpy(design.sites_NF), torch.from_numpy(design.background_NF)
    found = torch.from_numpy(design.found_NS).float()
    own = torch.from_numpy(design.site_group[:, None] == design.species_group)
    share = torch.from_numpy(design.random_share_G[design.species_group]).float()
    total = [np.zeros((len(test), found.shape[1])) for test in design.tests]
    batch = min(len(sites), 1024)
    steps = epochs * max(len(sites) // batch, 3)
    for number in range(nets):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        with _one_thread(), torch.random.fork_rng(devices=[]):  # initial weights and dropout take the global stream
            torch.manual_seed(1000 * seed + number)
            model = _layers(sites.shape[1], width, found.shape[1], dropout)
            optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
            for _ in range(steps):
                rows = torch.randperm(len(sites), generator=generator)[:batch]
                random = torch.randint(len(background), (NUM_RANDOM,), generator=generator)
                logits = model(torch.cat([sites[rows], background[random]]))
                value = LOSSES[loss](logits[:batch], found[rows], own[rows], logits[batch:], share)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
            model.eval()
            with torch.no_grad():
                for scores, test in zip(total, design.tests, strict=True):
                    scores += model(torch.from_numpy(test)).numpy() / nets
    return total


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one core: batches this small gain little from a second, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _layers(num_features: int, width: int, num_species: int, dropout: float) -> nn.Module:
    block = [nn.Linear(num_features, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)]
    block += [nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*block, nn.Linear(width, num_species))


def deep_maxent(z: Tensor, found: Tensor, own: Tensor, z_random: Tensor, share: Tensor) -> Tensor:
    """Return the Poisson process loss of every species over its background; common species weigh more.

    ``-log softmax(z, over the background)`` is averaged over the presences of a species, then over species with the
    square root of their presences as weight. The background is the sites of the species' group, and random ones
    whose weight is the species' share of random background.

    References
    ----------
    Ryckewaert et al. (2024), DeepMaxent, https://arxiv.org/abs/2412.19217.
    """
    inside = z.masked_fill(~own, OUTSIDE)
    weight = (share / (1 - share) * own.sum(0) / len(z_random)).clamp(min=1e-9)
    total = torch.logsumexp(torch.cat([inside, z_random + weight.log()]), dim=0)
    num = found.sum(0)
    per_species = (found * (total - z)).sum(0) / num.clamp(min=1)
    return (per_species * num.sqrt()).sum() / num.sqrt().sum().clamp(min=1)


def which_species(z: Tensor, found: Tensor, own: Tensor, z_random: Tensor, share: Tensor) -> Tensor:
    """Return the cross-entropy of which of the group's species a record at a site is; no background is needed."""
    total = torch.logsumexp(z.masked_fill(~own, OUTSIDE), dim=1, keepdim=True)
    return (found * (total - z)).sum() / found.sum().clamp(min=1)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "deep_maxent": deep_maxent,
    "which_species": which_species,
}


def down_sampled_forest(
    design: Design, seed: int, *, trees: int = 100, leaf: int = 5, extremely_random: bool = False
) -> Scores:
    """Return the mean votes of trees that each see as many background sites as presences.

    References
    ----------
    Valavi et al. (2021), Modelling species presence-only data with random forests,
    https://doi.org/10.1111/ecog.05615.
    """
    tree = ExtraTreeClassifier if extremely_random else DecisionTreeClassifier

    def fit(species: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, species])
        found, others = design.target_group(species)
        share = design.random_share_G[design.species_group[species]]
        votes = [np.zeros(len(test)) for test in design.tests]
        for _ in range(trees if len(found) and len(others) else 0):
            num_random = rng.binomial(len(found), share)
            x = np.concatenate([
                design.sites_NF[rng.choice(found, len(found))],
                design.sites_NF[rng.choice(others, len(found) - num_random)],
                design.background_NF[rng.integers(0, len(design.background_NF), num_random)],
            ])  # fmt: skip
            label = np.arange(len(x)) < len(found)
            model = tree(max_features="sqrt", min_samples_leaf=leaf, random_state=int(rng.integers(2**31)))
            model.fit(x, label)
            if len(model.classes_) == 2:
                for vote, test in zip(votes, design.tests, strict=True):
                    vote += model.predict_proba(test)[:, 1]
        return votes

    return by_species(fit, design)


MEMBERS: dict[str, Member] = {
    "hinge regression": hinge_regression,
    "DeepMaxent network": partial(network, loss="deep_maxent"),
    "which-species network": partial(network, loss="which_species", dropout=0.3),
    "forest": down_sampled_forest,
    "extremely random forest": partial(down_sampled_forest, extremely_random=True),
}


def _hinges(features_NF: np.ndarray, design: Design, knots: int = 6) -> np.ndarray:
    """Return each continuous feature and place, its square and its forward hinges, and the indicators."""
    last = features_NF.shape[1] - design.num_place
    smooth = np.concatenate([features_NF[:, : design.num_continuous], features_NF[:, last:]], axis=1)
    hinges = [np.maximum(smooth - knot, 0) for knot in np.linspace(-0.8, 0.8, knots)]
    return np.concatenate([smooth, smooth**2, *hinges, features_NF[:, design.num_continuous : last]], axis=1)


def _standardised(blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the blocks with the first one's columns at mean 0 and deviation 1; a constant column is 0 there."""
    mean, deviation = blocks[0].mean(0), blocks[0].std(0) + 1e-6
    sites, background, *tests = ((block - mean) / deviation for block in blocks)
    return sites, background, tests


def _some_rows(table: np.ndarray, most: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(table))[:most]


def by_species(fit: Callable[[int], list[np.ndarray]], design: Design) -> Scores:
    """Return what ``fit`` gives for each species, one (plots,) array a test set, as one table a test set."""
    per_species = _each(fit, range(design.found_NS.shape[1]))
    return [np.stack([scores[k] for scores in per_species], axis=1) for k in range(len(design.tests))]


def _each(function: Callable[[int], object], items: Iterable[int]) -> list:
    """Return the results in order; the work is done outside Python's lock, so threads share the cores."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))
