"""What a map cannot know of a cell and yet has to say: the facts of a survey that would be made there."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from releve.errors import RunError
from releve.runs.folder import Run

EARLIEST, LATEST = 1500, 2500


@dataclass(frozen=True)
class Facts:
    """Facts of the survey that a map predicts in every cell; None where the run knows of none.

    Country and region are unknown on a map.
    """

    area_m2: float | None = None
    uncertainty_m: float | None = None
    year: int | None = None

    def columns(self) -> list[pl.Expr]:
        """Return the columns of a table of surveys."""
        return [
            pl.lit(self.area_m2, pl.Float64).alias("area_m2"),
            pl.lit(self.uncertainty_m, pl.Float64).alias("uncertainty_m"),
            pl.lit(self.year, pl.Int32).alias("year"),
        ]


def typical_facts(run: Run, *, year: int | None = None, area_m2: float | None = None) -> Facts:
    """Return what is typical of the run's training rows, the medians of its first member, but for what is given.

    Parameters
    ----------
    run
        A trained run.
    year
        Up to which series are looked at, too.
    area_m2
        Area of the plots whose lists the map shows.

    Raises
    ------
    RunError
        If a year or an area is impossible.
    """
    if year is not None and not EARLIEST <= year <= LATEST:
        raise RunError(f"--year {year}", expected=f"a year from {EARLIEST} to {LATEST}")
    if area_m2 is not None and not 0 < area_m2 < 1e12:
        raise RunError(f"--area-m2 {area_m2}", expected="square metres above 0")
    table = run.models[0].statistics.tables.get("survey")
    known = table.quantiles if table else {}
    medians = {name: values[len(values) // 2] for name, values in known.items()}
    area, uncertainty, when = (medians.get(name) for name in ("log10_area_m2", "log10_uncertainty_m", "year"))
    return Facts(
        area_m2=area_m2 if area_m2 is not None else None if area is None else _rounded(10**area),
        uncertainty_m=None if uncertainty is None else _rounded(max(10**uncertainty - 1, 0.0)),
        year=year if year is not None else None if when is None else round(when),
    )


def _rounded(number: float) -> float:
    """Return five digits of a number that went through logarithms of float32."""
    return float(f"{number:.5g}")
