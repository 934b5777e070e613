"""What a run looks at, as things that can be changed one by one or together."""

# N surveys

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from releve.data.statistics import TableStatistics
from releve.data.survey import SURVEY_NUMERIC, survey_features
from releve.errors import RunError, nearest
from releve.explain.inputs import Inputs, column_of
from releve.models.kinds import MemberModel
from releve.runs.folder import Run
from releve.store.read import Store

CORRELATED = 0.7
"""Correlations beyond this are named: importance is shared between the two (Dormann et al. 2013)."""
FACTS = {
    "log10_area_m2": ("plot area", "log10 of m²"),
    "log10_uncertainty_m": ("location uncertainty", "log10 of m"),
    "year": ("year of the survey", ""),
    "country": ("country", ""),
    "region": ("region", ""),
}
"""By column of the facts of a survey: what it is called, and its unit."""
MODALITY_NAMES = {
    "covariates": "covariates",
    "survey": "facts of the survey",
    "location": "coordinates",
    "landsat": "Landsat series",
    "climate": "climate series",
    "patch": "patches",
}


@dataclass(frozen=True)
class Variable:
    """One thing that a run looks at.

    Parameters
    ----------
    name
        What it is called in tables and figures.
    modality
        Where it belongs.
    columns
        Its columns in the table of the modality; none of a modality that is no table, and is changed as a whole.
    group
        The group of a covariate, such as ``bioclim``; empty without one.
    unit
        As the store has it; empty if not known.
    is_categorical
        Whether its values are codes.
    classes
        Names of the codes, where they have some.
    """

    name: str
    modality: str
    columns: tuple[str, ...] = ()
    group: str = ""
    unit: str = ""
    is_categorical: bool = False
    classes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shuffle:
    """Variables that are shuffled together; ``kind`` is ``variable``, ``group`` or ``modality``."""

    name: str
    kind: str
    variables: tuple[Variable, ...]


def list_variables(run: Run) -> list[Variable]:
    """Return what the members of a run look at, in the order of its modalities and columns.

    A column without a known value in the training rows tells no member anything, and is left out.
    """
    spec = run.store.arrays["covariates"].spec if "covariates" in run.store.arrays else None
    found: dict[tuple[str, str], Variable] = {}
    for model in run.models:
        for modality in model.modalities:
            table = model.statistics.tables.get(modality)
            if table is None or modality == "location":
                columns = table.columns if table else ()
                found[modality, ""] = Variable(MODALITY_NAMES[modality], modality, columns)
                continue
            for column in (column for column in table.columns if _is_known(table, column)):
                name, unit = (
                    FACTS[column] if modality == "survey" else (column, spec.units.get(column, "") if spec else "")
                )
                group = spec.groups.get(column, "") if spec and modality == "covariates" else ""
                codes = column in table.categorical
                found.setdefault(
                    (modality, column),
                    Variable(name, modality, (column,), group, unit, codes, table.classes.get(column, {})),
                )
    return list(found.values())


def _is_known(table: TableStatistics, column: str) -> bool:
    return column in table.quantiles or bool(table.codes.get(column))


def list_shuffles(variables: Sequence[Variable]) -> list[Shuffle]:
    """Return what is shuffled: each variable, each group of covariates, each modality; nothing twice.

    Examples
    --------
    >>> cool, wet = (Variable(name, "covariates", (name,), "bioclim") for name in ("cool", "wet"))
    >>> [(each.kind, each.name) for each in list_shuffles([cool, wet, Variable("coordinates", "location", ("lon",))])]
    [('variable', 'cool'), ('variable', 'wet'), ('variable', 'coordinates'), ('modality', 'covariates')]
    """
    single = [Shuffle(each.name, "variable", (each,)) for each in variables]
    together: list[Shuffle] = []
    for modality in dict.fromkeys(each.modality for each in variables):
        own = tuple(each for each in variables if each.modality == modality)
        groups = list(dict.fromkeys(each.group for each in own))
        if len(groups) > 1:
            parts = [(name, tuple(each for each in own if each.group == name)) for name in groups]
            named = [(name.replace("_", " ") or "other covariates", part) for name, part in parts]
            together += [Shuffle(name, "group", part) for name, part in named if len(part) > 1]
        if len(own) > 1:
            together.append(Shuffle(MODALITY_NAMES[modality], "modality", own))
    return single + together


def find_variable(variables: Sequence[Variable], name: str) -> Variable:
    """Return the variable of a name.

    Raises
    ------
    RunError
        If there is none; the message offers the nearest.
    """
    for each in variables:
        if each.name == name:
            return each
    known = [each.name for each in variables]
    raise RunError(f"the run looks at no variable {name!r}", action=f"Of its {len(known)}, {nearest(name, known)}")


def mixed_with(variables: Iterable[Variable], order: NDArray[np.int64]) -> Callable[[Inputs, MemberModel], Inputs]:
    """Return a change that gives each survey the values of another in some variables.

    Parameters
    ----------
    variables
        What is changed; all of them come from the same other survey.
    order
        (N,) position of that other survey.
    """
    chosen, index = tuple(variables), torch.from_numpy(order)

    def change(inputs: Inputs, model: MemberModel) -> Inputs:
        given = inputs.take(index)
        for modality in dict.fromkeys(each.modality for each in chosen):
            names = [column for each in chosen if each.modality == modality for column in each.columns]
            table = model.statistics.tables.get(modality)
            at = [place for name in names if (place := column_of(table, name)) is not None]
            if not names or (table is not None and len(at) == sum(_is_known(table, each) for each in table.columns)):
                inputs = inputs.with_whole(modality, given)
            elif at and modality in inputs.tables:
                inputs = inputs.with_columns(modality, at, given.tables[modality][:, at])
        return inputs

    return change


def set_to(variable: Variable, value: float | NDArray) -> Callable[[Inputs, MemberModel], Inputs]:
    """Return a change that gives all surveys one value of a variable with one column, or each its own of (N,)."""
    (column,) = variable.columns
    fixed = torch.as_tensor(value, dtype=torch.float32)

    def change(inputs: Inputs, model: MemberModel) -> Inputs:
        at = column_of(model.statistics.tables.get(variable.modality), column)
        if at is None or variable.modality not in inputs.tables:
            return inputs
        return inputs.with_columns(variable.modality, [at], fixed.expand(len(inputs))[:, None])

    return change


def values_of(store: Store, variable: Variable, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N,) values of a numeric covariate or fact, or codes of a categorical covariate; NaN where missing."""
    if variable.modality == "survey":
        facts = survey_features(store.surveys[rows.tolist()], {})
        return facts[:, SURVEY_NUMERIC.index(variable.columns[0])].astype(np.float64)
    array = store.arrays.get("covariates")
    if array is None or variable.columns[0] not in array.spec.channels:
        return np.full(len(rows), np.nan)
    values = array.gather(rows)[:, array.spec.channels.index(variable.columns[0])].astype(np.float64)
    return np.where(array.row_of[rows] >= 0, values, np.nan)


def is_number(variable: Variable) -> bool:
    """Return whether a variable has one column of numbers, that is no code of a name."""
    return len(variable.columns) == 1 and not variable.is_categorical


def correlations(store: Store, variables: Sequence[Variable], rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return the pairs of numeric variables with |r| > 0.7 on some rows: ``first, second, r``, the strongest first.

    Pearson's correlation over the rows that have both.

    References
    ----------
    Dormann et al. (2013), Collinearity, doi:10.1111/j.1600-0587.2012.07348.x.
    """
    numeric = [each for each in variables if is_number(each)]
    values = {each.name: values_of(store, each, rows) for each in numeric}
    found = []
    for first, second in combinations(values, 2):
        both = np.isfinite(values[first]) & np.isfinite(values[second])
        a, b = values[first][both], values[second][both]
        if len(a) > 2 and a.std() > 0 and b.std() > 0:
            r = float(np.corrcoef(a, b)[0, 1])
            if abs(r) > CORRELATED:
                found.append((first, second, r))
    table = pl.DataFrame(found, schema={"first": pl.String, "second": pl.String, "r": pl.Float64}, orient="row")
    return table.sort(pl.col("r").abs(), descending=True)
