"""Predictions of a run's members: of what they held out, and of any store."""

# B batch, S species

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import ArrayStatistics
from releve.decide.decision import Decision, KindDecision
from releve.decide.stretch import FoldStretch, fit_stretch
from releve.errors import RunError
from releve.ingest.rows import VISIT
from releve.lists import Lists
from releve.models.kinds import MemberModel
from releve.models.model import SpeciesModel
from releve.progress import say
from releve.runs.folder import Run
from releve.store.read import Store
from releve.store.schema import ArraySpec
from releve.train.device import autocast_for
from releve.train.rows import fold_rows

BATCH_SIZE = 512
"""Surveys predicted at a time."""


def predict_held_out(run: Run) -> tuple[NDArray[np.int64], dict[str, torch.Tensor]]:
    """Return the validation rows of all trained folds and, by kind of member, their (N, S) logits.

    Each row is predicted by the members that had its fold held out; the logits of one kind are averaged. The rows of
    an ensemble are those that all its runs have held out, as positions in the first one's store.

    Raises
    ------
    RunError
        If the runs of an ensemble have held out no survey in common, or a survey id is repeated.
    """
    if run.parts:
        return _join_held_out(run)
    rows: list[NDArray[np.int64]] = []
    logits: dict[str, list[torch.Tensor]] = {}
    groups = models_of(run)
    for fold in sorted({member.fold for member in run.members if member.fold is not None}):
        in_fold = np.flatnonzero((run.store.folds == fold) & run.store.is_scored)
        rows.append(in_fold)
        for (held_out, kind), models in groups.items():
            if held_out != fold:
                continue
            gatherers = [gatherer_for(model, run.store) for model in models]
            parts = [
                mean_logits(run, models, gatherers, in_fold[start : start + BATCH_SIZE]).cpu()
                for start in range(0, len(in_fold), BATCH_SIZE)
            ]
            logits.setdefault(kind, []).append(torch.cat(parts))
    return np.concatenate(rows), {kind: torch.cat(parts) for kind, parts in logits.items()}


def _join_held_out(ensemble: Run) -> tuple[NDArray[np.int64], dict[str, torch.Tensor]]:
    found = [(part, *predict_held_out(part)) for part in ensemble.placed_parts]
    columns = [name for name in VISIT if all(name in part.store.surveys.columns for part in ensemble.placed_parts)]
    visits = [part.store.surveys.select(columns)[rows.tolist()].rows() for part, rows, _ in found]
    shared = set(visits[0]).intersection(*visits)
    if not shared or any(len(set(theirs)) < len(theirs) for theirs in visits):
        raise RunError(
            f"the runs of ensemble {ensemble.path} have {len(shared)} held-out surveys in common, or repeat their ids",
            expected="runs on the same release, scored on plots, with the same split section and seed",
        )
    order = [visit for visit in visits[0] if visit in shared]
    rows = found[0][1][[visit in shared for visit in visits[0]]]
    truth = ensemble.store.labels.take(rows)
    joined: dict[str, torch.Tensor] = {}
    for (part, held_out, logits), visited in zip(found, visits, strict=True):
        place = {visit: at for at, visit in enumerate(visited)}
        at = np.array([place[visit] for visit in order])
        joined |= {f"{part.path.name}/{kind}": table[at] for kind, table in logits.items()}
        theirs = part.store.labels.take(held_out[at])
        if not theirs.same_as(truth):
            raise RunError(
                f"runs {ensemble.parts[0].path.name} and {part.path.name} observed other species on the same surveys",
                expected="runs on the same release",
            )
    return rows, joined


def models_of(run: Run) -> dict[tuple[int | None, str], list[MemberModel]]:
    """Return the models by (fold, kind); those that held out nothing have no fold."""
    groups: dict[tuple[int | None, str], list[MemberModel]] = {}
    for part in run.placed_parts:
        groups |= {(fold, f"{part.path.name}/{kind}"): models for (fold, kind), models in models_of(part).items()}
    for member, model in zip(run.members, () if run.parts else run.models, strict=True):
        groups.setdefault((member.fold, member.kind), []).append(model)
    return groups


def predicting_models(run: Run) -> dict[tuple[int | None, str], list[MemberModel]]:
    """Return the models by (fold, kind) that predict new places: those of kinds that have a share.

    Where kinds are joined by logits, and each has members that learned from all rows, it is these alone: what grows at
    the nearest records tells most, and the others lack a fold of them.
    """
    models = {key: group for key, group in models_of(run).items() if run.decision.kinds[key[1]].share > 0}
    of_all_rows = {key: group for key, group in models.items() if key[0] is None}
    is_enough = {kind for _, kind in of_all_rows} == {kind for _, kind in models}
    return of_all_rows if run.decision.join == "logits" and is_enough else models


def mean_logits(
    run: Run, models: list[MemberModel], gatherers: list[Gatherer], rows: NDArray[np.int64]
) -> torch.Tensor:
    """Return the (B, S) mean logits of the models of one fold and kind: what a calibration is fitted on and used on.

    They are float32 and on the run's device.
    """
    parts = (predict_batch(run, model, gatherer, rows) for model, gatherer in zip(models, gatherers, strict=True))
    return sum_of(parts) / len(models) if len(models) > 1 else next(parts)


def sum_of(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of tensors, one or more, of which two at a time are held."""
    return reduce(torch.add, parts)


def predict_batch(run: Run, model: MemberModel, gatherer: Gatherer, rows: NDArray[np.int64]) -> torch.Tensor:
    """Return one model's (B, S) float32 logits on the run's device, in the precision that the run was trained with."""
    return logits_of(run, model, gatherer.batch(rows))


@torch.inference_mode()
def logits_of(
    run: Run, model: MemberModel, batch: Batch, known: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None
) -> torch.Tensor:
    """Return one model's (B, S) float32 logits of a batch, as :func:`predict_batch` does.

    ``known`` holds what a network's encoders have made of some modalities before (``SpeciesModel.embed``).
    """
    with autocast_for(run.config.train, run.device):
        batch = batch.to(run.device)
        logits_BS = model(batch, known) if known and isinstance(model, SpeciesModel) else model(batch)
    return logits_BS.to(run.device, torch.float32)


def gatherer_for(model: MemberModel, store: Store) -> Gatherer:
    """Return what gathers a store's batches as the model wants them, covariates in its own order.

    Patches or series of another shape or type than those the model was trained on, with other channels or another
    first year, are taken as missing, and said.

    Raises
    ------
    RunError
        If nothing is left that the model could look at.
    """
    usable = []
    for name in model.modalities:
        if name in model.statistics.arrays and name in store.arrays:
            bands = model.config.patch_bands if isinstance(model, SpeciesModel) and name == "patch" else None
            differs = what_differs(store.arrays[name].spec, model.statistics.arrays[name], bands)
            if differs:
                say(f"{name} of {store.path} is taken as missing: {differs}")
                continue
        usable.append(name)
    if not any(name in store.arrays or name in ("survey", "location") for name in usable):
        raise RunError(
            f"{store.path} has none of the modalities {list(model.modalities)} in the form the model was trained on",
            action="Predict on a release of the same kind",
        )
    table = model.statistics.tables.get("covariates")
    return Gatherer(store, tuple(usable), model.statistics.categories, table.columns if table else None)


def what_differs(spec: ArraySpec, known: ArrayStatistics, num_bands: int | None) -> str:
    """Return what of a stored array is not as in training, in words; nothing if a model can look at it.

    Parameters
    ----------
    spec, known
        The array of the store, and what the model was trained on.
    num_bands
        The first channels that the model looks at; None: all.
    """
    pairs = {
        "shape": (spec.shape[1:] if num_bands else spec.shape, known.shape[1:] if num_bands else known.shape),
        "fill": (spec.fill, known.fill),
        "channels": (spec.channels[:num_bands], known.channels[:num_bands] or spec.channels[:num_bands]),
        "first year": (spec.first_year, known.first_year),
    }
    return ", ".join(
        f"its {name} is {found}, the model was trained on {wanted}"
        for name, (found, wanted) in pairs.items()
        if found != wanted
    )


def predict_probs(
    run: Run, store: Store, seen: Lists | None = None
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield positions in a store and their (B, S) calibrated probabilities, on the run's device.

    The logits of one fold and kind are averaged and calibrated, as they were when the calibration was fitted; their
    probabilities are averaged over folds, stretched as far as that has made them timid, and averaged by share over
    kinds.

    Parameters
    ----------
    run
        A trained run.
    store
        Any store, of the same release or another; a modality it lacks is treated as missing.
    seen
        For each survey of the store, indices of species that are known to be there, few or many: their probability is
        1, and those of the others follow (``releve.decide.companions``). Where nothing was seen, nothing changes.

    Raises
    ------
    RunError
        If something was seen and the run has not learned what it says of the others.
    """
    companions = run.companions if seen is not None else None
    predictor = Predictor.of(run, store)
    for rows in predictor.batches():
        probs_BS = predictor.probs(rows)
        yield rows, probs_BS if companions is None or seen is None else companions.update(probs_BS, seen.take(rows))


@dataclass(frozen=True)
class Predictor:
    """A run's members and what gathers the rows of a store for each."""

    run: Run
    store: Store
    models: dict[tuple[int | None, str], list[MemberModel]]
    """By fold and kind; kinds without a share are left out."""
    gatherers: dict[tuple[int | None, str], list[Gatherer]]

    @classmethod
    def of(cls, run: Run, store: Store) -> Predictor:
        """Return what predicts a store."""
        models = predicting_models(run)
        gatherers = {key: [gatherer_for(model, store) for model in group] for key, group in models.items()}
        return cls(run, store, models, gatherers)

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield the positions in the store that are predicted together."""
        for start in range(0, len(self.store), BATCH_SIZE):
            yield np.arange(start, min(start + BATCH_SIZE, len(self.store)))

    def probs(
        self, rows: NDArray[np.int64], watch: Callable[[float, torch.Tensor], None] = lambda share, probs: None
    ) -> torch.Tensor:
        """Return (B, S) calibrated probabilities; see :func:`predict_probs`.

        Parameters
        ----------
        rows
            Positions in the store.
        watch
            Called with the share and the (B, S) calibrated probabilities of each fold and kind.
        """

        def logits_of_group(key: tuple[int | None, str]) -> torch.Tensor:
            return mean_logits(self.run, self.models[key], self.gatherers[key], rows)

        return pool_probs(self.run.decision, self.models, logits_of_group, watch)

    def probs_and_spread(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return (B, S) calibrated probabilities, and (B,) how far the members are from each other.

        That is the sum over species of the standard deviation between folds and kinds, in shares of the expected number
        of species; None of a run that has but one.
        """
        if len(self.models) < 2:
            return self.probs(rows), None
        moments: list[torch.Tensor] = []

        def add(share: float, each_BS: torch.Tensor) -> None:
            if moments:
                moments[0].add_(each_BS, alpha=share)
                moments[1].addcmul_(each_BS, each_BS, value=share)
            else:
                moments.extend([each_BS * share, each_BS.square() * share])

        probs_BS = self.probs(rows, add)
        mean_BS, square_BS = moments
        deviation_B = (square_BS - mean_BS.square()).clamp_(min=0).sqrt_().sum(dim=1)
        return probs_BS, deviation_B / mean_BS.sum(dim=1).clamp(min=1e-12)


def pool_probs(
    decision: Decision,
    groups: Collection[tuple[int | None, str]],
    logits_of_group: Callable[[tuple[int | None, str]], torch.Tensor],
    watch: Callable[[float, torch.Tensor], None] = lambda share, probs: None,
) -> torch.Tensor:
    """Return the (B, S) probabilities of new places, from the mean logits of each fold's members of a kind.

    Parameters
    ----------
    decision
        What the run has learned about its logits.
    groups
        (fold, kind) of its members, as :func:`models_of` gives them.
    logits_of_group
        Returns the (B, S) mean logits of a group; they are asked for one by one, so that few are held.
    watch
        Called with the share and the (B, S) calibrated probabilities of each group.
    """
    num_folds, parts = Counter(kind for _, kind in groups), []
    if decision.join == "logits":
        return torch.sigmoid(sum_of(_lines(decision, groups, num_folds, logits_of_group, watch)))
    for kind, count in num_folds.items():
        decided = decision.kinds[kind]

        def folds(kind: str = kind, count: int = count, decided: KindDecision = decided) -> Iterator[torch.Tensor]:
            for key in (key for key in groups if key[1] == kind):
                each_BS = decided.calibration.apply(logits_of_group(key))
                watch(decided.share / count, each_BS)
                yield each_BS / count if count > 1 else each_BS

        mean_BS = decided.stretch.apply(sum_of(folds()), count)
        parts.append(decided.share * mean_BS if decided.share != 1 else mean_BS)
    return sum_of(parts).clamp_(max=1.0)


def _lines(
    decision: Decision,
    groups: Collection[tuple[int | None, str]],
    num_folds: Counter[str],
    logits_of_group: Callable[[tuple[int | None, str]], torch.Tensor],
    watch: Callable[[float, torch.Tensor], None],
) -> Iterator[torch.Tensor]:
    """Yield the (B, S) calibrated logits of each group, times its share."""
    for key in groups:
        line, share = decision.kinds[key[1]].calibration, decision.kinds[key[1]].share / num_folds[key[1]]
        logits_BS = logits_of_group(key)
        watch(share, line.apply(logits_BS))
        yield share * (line.slope * logits_BS + line.intercept)


def fit_stretches(
    run: Run, decision: Decision, rows: NDArray[np.int64], logits: dict[str, torch.Tensor]
) -> dict[str, FoldStretch]:
    """Return, for each kind of network, how far the mean over folds is to be stretched.

    It is fitted on surveys that two folds' members predict untrained: one held them out, the other selected its epoch
    on them. Other kinds select nothing, and their mean is left as it is.

    Parameters
    ----------
    run, decision
        A run, and its decision but for this.
    rows, logits
        As :func:`predict_held_out` gives them.
    """
    first: dict[str, list[torch.Tensor]] = {}
    second: dict[str, list[torch.Tensor]] = {}
    found: dict[str, list[NDArray[np.int64]]] = {}
    order = np.argsort(rows)
    for (fold, kind), models in models_of(run).items():
        if fold is None or kind != "network" or not run.config.train.selection_share:
            continue
        shared = rows  # by all seeds of the fold
        for member in (member for member in run.members if (member.fold, member.kind) == (fold, kind)):
            options = {"selection_share": run.config.train.selection_share, "seed": member.seed}
            selected = fold_rows(run.store, fold, run.config.split, run.config.train.regime, **options).selection  # type: ignore[arg-type]
            shared = np.intersect1d(shared, selected)
        if not len(shared):
            continue
        gatherers = [gatherer_for(model, run.store) for model in models]
        starts = range(0, len(shared), BATCH_SIZE)
        theirs = [mean_logits(run, models, gatherers, shared[i : i + BATCH_SIZE]).cpu() for i in starts]
        at = order[np.searchsorted(rows, shared, sorter=order)]
        first.setdefault(kind, []).append(decision.calibrated(kind, logits[kind][at]))
        second.setdefault(kind, []).append(decision.calibrated(kind, torch.cat(theirs)))
        found.setdefault(kind, []).append(shared)
    labels = run.store.labels
    return {
        kind: fit_stretch(torch.cat(first[kind]), torch.cat(second[kind]), labels.take(np.concatenate(found[kind])))
        for kind in found
    }
