"""All that an explanation of a run holds, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from releve.errors import RunError
from releve.explain.importance import MAX_SURVEYS, NUM_REPEATS, Importance, measure_importance
from releve.explain.limiting import limiting_factors, limiting_table
from releve.explain.response import NUM_PLACES, Responses, measure_pair, measure_responses, name_of, training_places
from releve.explain.saliency import Saliency, find_plot, measure_saliency, strongest
from releve.explain.subjects import COMMUNITY, Subject, find_species
from releve.explain.variables import Variable, find_variable, list_variables
from releve.runs.folder import Run

NUM_CURVES = 9
"""Variables with a response curve unless some are asked for: the most important ones."""
MAX_LIMITED = 200
"""Of more plots, so many are drawn to say what limits species there."""

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """What an explanation is of, as a user names it.

    Parameters
    ----------
    species
        Names, or official ids; none: the community.
    variables
        Names of variables whose curves are wanted beside those of the most important.
    pairs
        Pairs of names of variables.
    plot
        Id of a survey whose patch and series are looked at.
    """

    species: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    plot: str | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What :func:`explain` finds: tables by the name of their file, saliencies, and how they were made."""

    tables: dict[str, pl.DataFrame]
    facts: dict[str, Any]
    saliencies: list[Saliency] = field(default_factory=list)


def explain(
    run: Run,
    asked: Asked,
    *,
    num_repeats: int = NUM_REPEATS,
    max_surveys: int = MAX_SURVEYS,
    seed: int = 0,
    advance: Advance = lambda step, done, total: None,
) -> Explanation:
    """Return what drives a run: importance, response curves, limiting factors, and of a plot the saliency.

    Parameters
    ----------
    run
        A trained run, or an ensemble of runs on one store.
    asked
        What it is of; unknown names are refused before anything is worked out.
    num_repeats, max_surveys
        As of :func:`measure_importance`.
    seed
        Of everything that is drawn.
    advance
        Is told the step, how much more of it is done, and how much there is.

    Raises
    ------
    RunError
        If a name is not known, or there is nothing to show of the plot.
    """
    variables = list_variables(run)
    species = find_species(run, asked.species)
    named = [_curve(variables, name) for name in asked.variables]
    pairs = [(_curve(variables, first), _curve(variables, second)) for first, second in asked.pairs]
    row = None if asked.plot is None else find_plot(run.store, asked.plot)
    subjects: list[Subject] = [*species] or [None]
    saliencies = [] if row is None else measure_saliency(run, run.store, row, subjects[0])

    def told(step: str) -> Callable[[int, int], None]:
        return lambda done, total: advance(step, done, total)

    options: dict[str, Any] = {"seed": seed}
    importance = measure_importance(
        run, species, num_repeats=num_repeats, max_surveys=max_surveys, advance=told("importance"), **options
    )
    curves = choose_curves(variables, importance, named)
    responses = measure_responses(run, curves, subjects, advance=told("response curves"), **options)
    tables = _tables(run, importance, responses, bool(species))
    if pairs:
        found = [measure_pair(run, *pair, subjects, advance=told("pairs"), seed=seed) for pair in pairs]
        tables["pairs"] = pl.concat(found)
    if any(each.modality == "covariates" for each in variables):
        rows = training_places(run, MAX_LIMITED, seed)
        limiting = limiting_factors(run, run.store, rows, subjects, advance=told("limiting factors"))
        tables["limiting"] = limiting_table(run, run.store, rows, limiting)
    if saliencies:
        tables["saliency"] = pl.DataFrame(strongest(saliencies), schema=("modality", "channel", "share"), orient="row")
    facts = importance.facts | {
        "seed": seed,
        "subjects": [name_of(run, subject) for subject in subjects],
        "score": "auc" if run.config.is_of_records_alone else "f1",
        "community": COMMUNITY,
        "units": {each.name: each.unit for each in variables if each.unit},
        "num_places": len(training_places(run, NUM_PLACES, seed)),
        "plot": asked.plot,
        "saliency": [
            {"modality": each.modality, "channels": each.channels, "first_year": each.first_year} for each in saliencies
        ],
        "tables": list(tables),
        "num_variables": len(variables),
        "num_members": len(run.models),
    }
    return Explanation(tables, facts, saliencies)


def choose_curves(variables: Sequence[Variable], importance: Importance, named: Sequence[Variable]) -> list[Variable]:
    """Return the variables whose curves are drawn: those named, and the most important that have one column.

    They are those of the species that were asked for, or of all. Names of countries and regions are left out: they have
    no order, and mean what members made of them.
    """
    table = importance.table.filter(pl.col("shuffled") == "everywhere", pl.col("kind") == "variable")
    if importance.told.height:
        told = importance.told.filter(pl.col("kind") == "variable")
        table = told.group_by("variable", maintain_order=True).agg(pl.col("loglik_lost").sum())
    order = table.sort("loglik_lost", descending=True, maintain_order=True)["variable"].to_list()
    able = {each.name: each for each in variables if has_curve(each)}
    most = [able[name] for name in order if name in able][:NUM_CURVES]
    return list({each.name: each for each in [*named, *most]}.values())


def has_curve(variable: Variable) -> bool:
    """Return whether values of a variable can be tried one after the other."""
    return len(variable.columns) == 1 and (variable.modality == "covariates" or not variable.is_categorical)


def _curve(variables: Sequence[Variable], name: str) -> Variable:
    found = find_variable(variables, name)
    if not has_curve(found):
        able = [each.name for each in variables if has_curve(each)]
        raise RunError(
            f"{name} has no values that could be tried one by one",
            expected=f"one of the {len(able)} variables that are numbers or classes, such as {', '.join(able[:3])}",
        )
    return found


def _tables(run: Run, importance: Importance, responses: Responses, of_species: bool) -> dict[str, pl.DataFrame]:
    names = pl.Series([str(each) for each in run.species.tolist()])
    by_species = importance.species.with_columns(species=names.gather(importance.species["species_index"]))
    tables = {
        "importance": importance.table,
        "species": by_species.select("species", "num_true", "variable", "loglik_lost"),
        "correlated": importance.correlated,
        "curves": responses.curves,
        "lines": responses.lines,
        "distribution": responses.distribution,
        "optima": responses.optima,
    }
    if of_species:
        told = importance.told.with_columns(species=names.gather(importance.told["species"]))
        tables["species_importance"] = told
    return tables
