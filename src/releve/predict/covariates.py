"""Covariates of another source, called and coded as a run knows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from releve.ingest.classes import recode
from releve.ingest.columns import match_covariates
from releve.ingest.covariates import Covariates
from releve.ingest.own import Training
from releve.ingest.units import notes_on_units
from releve.progress import say


def as_known(covariates: Covariates, training: Training, *, origin: str) -> Covariates:
    """Return covariates by the names that a run knows, their classes by its codes; and say what is unlike training.

    Every source numbers classes that have names in its own way: they are told by their names. One that the run does not
    know is unknown, never another.

    Parameters
    ----------
    covariates
        Of places to predict.
    training
        What the run was trained on.
    origin
        What they are called in messages.
    """
    known = [*training.quantiles, *training.codes]
    columns = [name for name in covariates.table.columns if name != "survey_id"]
    called = {theirs: ours for ours, theirs in match_covariates(columns, known, origin=origin).columns.items()}
    table, classes = covariates.table, dict(covariates.classes)
    for theirs, ours in called.items():
        if ours not in training.classes:
            continue
        read = table[theirs].fill_null(np.nan).to_numpy()
        codes = recode(read, covariates.classes.get(theirs, {}), training.classes[ours])
        num_unknown = int((np.isfinite(read) & np.isnan(codes)).sum())
        if num_unknown:
            say(f"{origin}: {ours} of {num_unknown:,} places is no class that the run knows by its name, unknown there")
        table = table.with_columns(pl.Series(theirs, codes))
        classes[theirs] = dict(training.classes[ours])

    def ours_of(name: str) -> str:
        return called.get(name, name)

    table = table.rename({theirs: ours for theirs, ours in called.items() if theirs != ours})
    numbers = {name: table[name].fill_null(np.nan).to_numpy() for name in training.quantiles if name in table.columns}
    for note in notes_on_units(numbers, training.quantiles):
        say(f"{origin}: {note}")
    return replace(
        covariates,
        table=table,
        groups={ours_of(name): group for name, group in covariates.groups.items()},
        units={ours_of(name): unit for name, unit in covariates.units.items()},
        categorical=tuple(map(ours_of, covariates.categorical)),
        classes={ours_of(name): names for name, names in classes.items()},
        masked={ours_of(name): count for name, count in covariates.masked.items()},
        not_covered={ours_of(name): count for name, count in covariates.not_covered.items()},
    )
