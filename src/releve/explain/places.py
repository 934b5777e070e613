"""Surveys that a run can be asked about again and again, each time with other values."""

# C changes, N surveys, S species

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from releve.errors import RunError
from releve.explain.inputs import Inputs, ask, gather_inputs, join
from releve.files import file_sha256
from releve.models.kinds import MemberModel
from releve.runs.folder import Run
from releve.runs.predict import models_of, pool_probs, predicting_models, sum_of
from releve.store.read import Store

Change = Callable[[Inputs, MemberModel], Inputs]


def unchanged(inputs: Inputs, model: MemberModel) -> Inputs:
    """Return the surveys as they are."""
    return inputs


class Places:
    """Rows of a store as every member of a run sees them; images and series are encoded once.

    What is gathered is a table for each member, so that a few thousand rows fit in memory.
    """

    def __init__(self, run: Run, store: Store, rows: NDArray[np.int64], *, held_out: bool = False) -> None:
        """Gather the rows.

        Parameters
        ----------
        run
            A trained run, or an ensemble.
        store
            Where the rows are; any store that the run can predict.
        rows
            Their positions.
        held_out
            For :meth:`held_out_probs` alone: leave out members that held out nothing.
        """
        self.run, self.store, self.rows = run, store, rows
        shares = {kind: decided.share for kind, decided in run.decision.kinds.items()}
        groups = {key: models for key, models in models_of(run).items() if shares[key[1]] > 0 and key[0] is not None}
        self.groups = groups if held_out else predicting_models(run)

    @cached_property
    def inputs(self) -> dict[tuple[int | None, str], list[Inputs]]:
        """What each member sees of the rows, by (fold, kind)."""
        return {
            key: [gather_inputs(self.run, model, self.store, self.rows) for model in models]
            for key, models in self.groups.items()
        }

    def probs(self, changes: Sequence[Change] = (unchanged,)) -> Tensor:
        """Return (C, N, S) calibrated probabilities by all members, as ``predict_probs`` gives them, after each change.

        Changes are asked about together: most of what trees say is then worked out once.
        """

        def logits_of_group(key: tuple[int | None, str]) -> Tensor:
            pairs = zip(self.groups[key], self.inputs[key], strict=True)
            changed = ((model, [change(inputs, model) for change in changes]) for model, inputs in pairs)
            return sum_of(ask(self.run, model, join(parts)) for model, parts in changed) / len(self.groups[key])

        probs = pool_probs(self.run.decision, self.groups, logits_of_group).cpu()
        return probs.reshape(len(changes), len(self.rows), -1)

    def held_out_probs(self, changes: Sequence[Change] = (unchanged,)) -> Tensor:
        """Return (C, N, S) calibrated probabilities of each row by the members that had its fold held out."""
        folds_N, shape = self.store.folds[self.rows], (len(changes), len(self.rows), len(self.run.species))
        logits: dict[str, Tensor] = {}
        for (fold, kind), models in self.groups.items():
            inside = torch.from_numpy(np.flatnonzero(folds_N == fold))
            if not len(inside):
                continue
            pairs = zip(models, self.inputs[fold, kind], strict=True)
            changed = ((model, [change(inputs, model).take(inside) for change in changes]) for model, inputs in pairs)
            theirs = sum_of(ask(self.run, model, join(parts)) for model, parts in changed).cpu() / len(models)
            table_CNS = logits.setdefault(kind, torch.zeros(shape))
            table_CNS[:, inside] = theirs.reshape(len(changes), len(inside), -1)
        return self.run.decision.probs(logits)


def held_out_rows(run: Run) -> NDArray[np.int64]:
    """Return the rows of a run's store that some members have not learned from; of an ensemble, of every run.

    Raises
    ------
    RunError
        If the runs of an ensemble were trained on different stores.
    """
    parts = run.parts or (run,)
    checks = {file_sha256(part.store.path / "manifest.json") for part in parts} if run.parts else set()
    if len(checks) > 1:
        raise RunError(
            f"the runs of ensemble {run.path} were trained on {len(checks)} stores",
            expected="one store, so that a variable is the same for all of them",
            action="Explain its runs one by one",
        )
    folds = [{member.fold for member in part.members if member.fold is not None} for part in parts]
    shared = sorted(set.intersection(*folds))
    return np.flatnonzero(np.isin(run.store.folds, shared) & run.store.is_scored)
