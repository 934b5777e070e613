"""How much worse a run predicts held-out surveys when a variable no longer says anything: permutation importance."""

# N surveys, S species, T told species, R repeats

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.evaluate.facts import bootstrap_blocks
from releve.explain.places import Places, held_out_rows
from releve.explain.variables import Shuffle, correlations, list_shuffles, list_variables, mixed_with
from releve.lists import Lists
from releve.metrics.auc import auc_differences, summarise
from releve.metrics.intervals import bootstrap_interval
from releve.metrics.sets import score_sets
from releve.runs.folder import Run

NUM_REPEATS = 5
MAX_SURVEYS = 500
"""Of more held-out surveys, so many are drawn."""
EVERYWHERE, WITHIN = "everywhere", "within blocks"
"""Where values are taken from: any survey, or one of the same block."""
NOISE = 2e-6
"""Smaller changes of a log-likelihood are none."""
LEAST = 1e-7
"""Probabilities nearer to 0 or 1 are taken for this, so that their logarithm is finite."""


@dataclass(frozen=True, eq=False)
class Importance:
    """What :func:`measure_importance` finds.

    Parameters
    ----------
    table
        A row for each shuffle and place that values are taken from; see :func:`measure_importance`.
    species
        A row a species with a presence among the surveys: the variable that it loses most by.
    told
        A row for each species that was asked for and each shuffle.
    correlated
        Pairs of variables that say nearly the same.
    facts
        How it was measured: ``num_surveys, num_blocks, num_repeats, loglik`` and ``sample_f1`` of the surveys as they
        are.
    """

    table: pl.DataFrame
    species: pl.DataFrame
    told: pl.DataFrame
    correlated: pl.DataFrame
    facts: dict[str, float]


def measure_importance(
    run: Run,
    species: Sequence[int] = (),
    *,
    num_repeats: int = NUM_REPEATS,
    max_surveys: int = MAX_SURVEYS,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Importance:
    """Return what held-out predictions lose when the values of variables are shuffled among surveys.

    Each survey is predicted by the members that had its fold held out. Values are shuffled in two ways. *Everywhere*: a
    survey gets the value of any other, and the loss is all that the run owes to the variable, its broad pattern over
    the map included. *Within blocks*: it gets that of another survey of its block (of the evaluation's intervals, 50 km
    at most), so that the geography stays as it is, and the loss is what the variable tells of neighbours apart: it is
    importance on the condition of the place. A coarse variable, such as climate, hardly varies within a block, so that
    the second way alone would call it unimportant; the first alone cannot tell a gradient that plants feel from one
    that merely runs across the map. Variables that say nearly the same share their importance, as each stands in for
    the other: see ``correlated``, and the groups, which are shuffled together.

    Parameters
    ----------
    run
        A trained run, or an ensemble of runs on one store.
    species
        Columns of species whose own losses are wanted.
    num_repeats
        How often each is shuffled; losses are means.
    max_surveys
        Of more held-out surveys so many are drawn, all alike likely.
    seed
        Of surveys, shuffles and intervals.
    advance
        Is told how many more shuffles are done, and of how many.

    Returns
    -------
    Importance
        ``table`` has ``variable, kind`` (``variable``, ``group``, ``modality``), ``modality``, ``shuffled``
        (``everywhere``, ``within blocks``), ``correlated_with``, and the losses with their 95 % intervals over blocks
        (``_low``, ``_high``): ``loglik_lost``, of the log-likelihood of a survey, the sum over species, in nats;
        ``f1_lost``, of the F1 of its list; of a run on records alone ``auc_lost`` in place of that.

    Raises
    ------
    RunError
        If the run is an ensemble of runs on different stores.

    References
    ----------
    Breiman (2001), Random forests, doi:10.1023/A:1010933404324.
    Fisher, Rudin & Dominici (2019), All models are wrong, but many are useful, JMLR 20, 177, arXiv:1801.01489.
    Strobl et al. (2008), Conditional variable importance for random forests, doi:10.1186/1471-2105-9-307.
    """
    rng = np.random.default_rng(seed)
    rows = held_out_rows(run)
    if len(rows) > max_surveys:
        rows = np.sort(rng.choice(rows, max_surveys, replace=False))
    scored = _Scored(run, rows, np.asarray(species, np.int64))
    variables = list_variables(run)
    shuffles = list_shuffles(variables)
    total = len(shuffles) * 2 * num_repeats
    table, told, losses_S = [], [], []
    for shuffle in shuffles:
        for where in (EVERYWHERE, WITHIN):
            losses = scored.repeated(shuffle, [scored.order(where, rng) for _ in range(num_repeats)])
            advance(num_repeats, total)
            table.append(_row(shuffle, where) | scored.summary(losses, seed))
            if where == EVERYWHERE:
                told += [{"species": int(at)} | row for at, row in scored.of_species(shuffle, losses, seed)]
                losses_S.append(np.mean([each.loglik_S for each in losses], axis=0))
    correlated = correlations(run.store, variables, rows)
    return Importance(
        table=pl.DataFrame(table, infer_schema_length=None).join(
            _partners(correlated), on="variable", how="left", maintain_order="left"
        ),
        species=_by_species(shuffles, np.stack(losses_S), scored.truth),
        told=pl.DataFrame(told, infer_schema_length=None),
        correlated=correlated,
        facts=scored.facts() | {"num_repeats": num_repeats, "num_held_out": len(held_out_rows(run))},
    )


@dataclass(frozen=True, eq=False)
class _Losses:
    """What one shuffle costs: log-likelihood by survey, by species, by survey of the told species; F1; AUC."""

    loglik_N: NDArray[np.float64]
    loglik_S: NDArray[np.float64]
    loglik_NT: NDArray[np.float64]
    f1_N: NDArray[np.float64] | None
    auc_R: NDArray[np.float64] | None


class _Scored:
    """Held-out surveys with the scores that they have as they are."""

    def __init__(self, run: Run, rows: NDArray[np.int64], told: NDArray[np.int64]) -> None:
        self.run, self.told = run, told
        self.places = Places(run, run.store, rows, held_out=True)
        self.truth = run.store.labels.take(rows)
        self.folds = run.store.folds[rows]
        self.blocks = bootstrap_blocks(run.store.lon[rows], run.store.lat[rows], run.config.split.block_size_km)
        self.by_rank = run.config.is_of_records_alone
        self.probs_NS = self.places.held_out_probs()[0]
        self.loglik_NS = log_likelihood(self.probs_NS, self.truth)
        self.f1_N = None if self.by_rank else self._f1(self.probs_NS)

    def order(self, where: str, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (N,) the survey whose values each survey gets."""
        blocks = self.blocks if where == WITHIN else np.zeros(len(self.blocks), np.int64)
        return shuffled_within(blocks, rng)

    def repeated(self, shuffle: Shuffle, orders: Sequence[NDArray[np.int64]]) -> list[_Losses]:
        """Return what the surveys lose when each has another's values, for each order of the others."""
        changes = [mixed_with(shuffle.variables, order) for order in orders]
        return [self._losses(probs_NS) for probs_NS in self.places.held_out_probs(changes)]

    def _losses(self, probs_NS: Tensor) -> _Losses:
        lost_NS = self.loglik_NS - log_likelihood(probs_NS, self.truth)
        lost_NS[lost_NS.abs() < NOISE] = 0.0  # the same row in another batch differs in its last bits
        f1_N = None if self.f1_N is None else self.f1_N - self._f1(probs_NS)
        auc_R = None
        if self.by_rank:
            same = np.random.default_rng(0)  # the same resamples for every shuffle
            auc_R = auc_differences(self.probs_NS, probs_NS, self.truth, self.folds, self.blocks, same)
        told_NT = lost_NS[:, self.told].numpy().astype(np.float64)
        by_survey, by_species = (lost_NS.sum(dim=d, dtype=torch.float64).numpy() for d in (1, 0))
        return _Losses(by_survey, by_species / len(lost_NS), told_NT, f1_N, auc_R)

    def _f1(self, probs_NS: Tensor) -> NDArray[np.float64]:
        return score_sets(self.run.decision.lists(probs_NS), self.truth, probs_NS.shape[1]).per_survey_f1

    def summary(self, losses: Sequence[_Losses], seed: int) -> dict[str, float]:
        """Return mean losses over repeats, with intervals over blocks."""
        found = self._interval("loglik_lost", np.mean([each.loglik_N for each in losses], axis=0), seed)
        f1 = [each.f1_N for each in losses if each.f1_N is not None]
        auc = [each.auc_R for each in losses if each.auc_R is not None]
        if f1:
            found |= self._interval("f1_lost", np.mean(f1, axis=0), seed)
        if auc:
            lost = summarise(np.mean(auc, axis=0), len(np.unique(self.blocks)))
            found |= {"auc_lost": lost.gain, "auc_lost_low": lost.low, "auc_lost_high": lost.high}
        return found

    def of_species(self, shuffle: Shuffle, losses: Sequence[_Losses], seed: int) -> list[tuple[int, dict[str, object]]]:
        """Return a row for each told species."""
        mean_NT = np.mean([each.loglik_NT for each in losses], axis=0)
        head: dict[str, object] = {"variable": shuffle.name, "kind": shuffle.kind}
        return [
            (at, head | self._interval("loglik_lost", values_N, seed))
            for at, values_N in zip(self.told.tolist(), mean_NT.T, strict=True)
        ]

    def _interval(self, name: str, values_N: NDArray[np.float64], seed: int) -> dict[str, float]:
        low, high = bootstrap_interval(values_N, self.blocks, np.random.default_rng(seed))
        return {name: float(values_N.mean()), f"{name}_low": low, f"{name}_high": high}

    def facts(self) -> dict[str, float]:
        """Return what the surveys are and how they are predicted as they are."""
        found: dict[str, float] = {"num_surveys": len(self.blocks), "num_blocks": len(np.unique(self.blocks))}
        found["loglik"] = float(self.loglik_NS.sum(dim=1, dtype=torch.float64).mean())
        return found if self.f1_N is None else found | {"sample_f1": float(self.f1_N.mean())}


def log_likelihood(probs_NS: Tensor, truth: Lists) -> Tensor:
    """Return (N, S) float32 log-likelihood of each species' presence or absence on each survey, in nats.

    Examples
    --------
    >>> log_likelihood(torch.tensor([[0.5, 0.25]]), Lists.from_rows([[0]])).exp().tolist()
    [[0.5, 0.75]]
    """
    probs_NS = probs_NS.double().clamp(LEAST, 1 - LEAST)
    known = truth.to_csr(probs_NS.shape[1])
    loglik_NS = torch.log1p(-probs_NS)
    row, column = (torch.from_numpy(each.astype(np.int64)) for each in known.nonzero())
    loglik_NS[row, column] = probs_NS[row, column].log()
    return loglik_NS.float()


def shuffled_within(blocks: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return (N,) a random order of the surveys in which each stays in its block.

    Examples
    --------
    >>> blocks = np.array([1, 0, 1, 0, 2])
    >>> order = shuffled_within(blocks, np.random.default_rng(0))
    >>> sorted(order.tolist()), (blocks[order] == blocks).all().item()
    ([0, 1, 2, 3, 4], True)
    """
    order = np.empty(len(blocks), np.int64)
    order[np.argsort(blocks, kind="stable")] = np.lexsort((rng.random(len(blocks)), blocks))
    return order


def _row(shuffle: Shuffle, where: str) -> dict[str, object]:
    modality = shuffle.variables[0].modality
    return {"variable": shuffle.name, "kind": shuffle.kind, "modality": modality, "shuffled": where}


def _partners(correlated: pl.DataFrame) -> pl.DataFrame:
    """Return ``variable, correlated_with``: the names of each variable's partners, the strongest first."""
    both = pl.concat(
        [correlated, correlated.select(pl.col("second").alias("first"), pl.col("first").alias("second"), "r")]
    )
    both = both.sort(pl.col("r").abs(), descending=True)
    named = both.group_by(pl.col("first").alias("variable"), maintain_order=True).agg(pl.col("second"))
    return named.select("variable", correlated_with=pl.col("second").list.join("; "))


def _by_species(shuffles: Sequence[Shuffle], losses_VS: NDArray[np.float64], truth: Lists) -> pl.DataFrame:
    """Return ``species_index, num_true, variable, loglik_lost``: what each species loses most by, if by anything."""
    single = [at for at, shuffle in enumerate(shuffles) if shuffle.kind == "variable"]
    losses_VS = losses_VS[single]
    counts_S = np.bincount(truth.indices[truth.indices < losses_VS.shape[1]], minlength=losses_VS.shape[1])
    seen = np.flatnonzero(counts_S)
    best = losses_VS[:, seen].argmax(axis=0)
    return pl.DataFrame(
        {
            "species_index": seen,
            "num_true": counts_S[seen],
            "variable": [shuffles[single[at]].name for at in best],
            "loglik_lost": losses_VS[best, seen],
        }
    ).sort("loglik_lost", descending=True)
