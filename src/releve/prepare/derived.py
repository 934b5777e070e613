"""Every derived column: its unit, where it comes from, what it means."""

from __future__ import annotations

from dataclasses import dataclass

from releve.prepare.vegetation import INDICES


@dataclass(frozen=True)
class Derived:
    """What a derived column means."""

    unit: str
    source: str
    """Formula, or where the value comes from."""
    description: str


OF_RECORDS: dict[str, Derived] = {
    "country_filled": Derived(
        "bool",
        "`country` was null and the reference raster has a country",
        "`country` was not in the release; its value is Natural Earth's",
    ),
    "region_filled": Derived(
        "bool",
        "`region` was null and the release's GeoJSON has a region",
        "`region` was not in the table; its value is that of the polygons",
    ),
    "day_of_year": Derived(
        "day, 1 to 366",
        "`date`, or `month` and `day`",
        "null if the day is not known; a year that is not known is taken as common",
    ),
    "quarter": Derived(
        "1 to 4",
        "(month - 1) // 3 + 1",
        "the quarter of the satellite series that was running; quarter q ends with month 3q",
    ),
    "day_sin": Derived(
        "-1 to 1", "sin(2π day_of_year / 365.25)", "with day_cos, the season without a jump at New Year"
    ),
    "day_cos": Derived(
        "-1 to 1", "cos(2π day_of_year / 365.25)", "1 in midwinter, -1 in midsummer, north of the equator"
    ),
    "log10_area_m2": Derived("log10 m²", "log10(area_m2)", "size of the plot; null if not finite or not above 0"),
    "log10_uncertainty_m": Derived(
        "log10 m", "log10(uncertainty_m + 1)", "how far off the place may be; null if not finite or below 0"
    ),
    "log1p_cell_records": Derived(
        "ln(1 + records)",
        "ln(1 + records in the cell)",
        "local effort: equal-area cell of `cell_size_km` (10 km), all years",
    ),
    "log1p_cell_publishers": Derived(
        "ln(1 + publishers)", "ln(1 + different publishers in the cell)", "by how many sources the cell was visited"
    ),
    "log1p_cell_year_records": Derived(
        "ln(1 + records)",
        "ln(1 + records in the cell in the record's year)",
        "local effort of the year; null if the year is not known",
    ),
    "publisher_share": Derived(
        "0 to 1", "records of the publisher / all records of the table", "null if the publisher is not known"
    ),
}

_BANDS = {name: f"({a} - {b}) / ({a} + {b})" for name, (a, b) in INDICES.items()}
_MEANT = {"ndvi": "NDVI (green vegetation)", "ndwi": "Gao's NDWI (water of the canopy)"}

OF_SERIES: dict[str, Derived] = {}
for _index, _formula in _BANDS.items():
    OF_SERIES |= {
        f"{_index}_q{quarter}": Derived(
            "-1 to 1", f"mean over the years of {_formula}", f"{_MEANT[_index]} in quarter {quarter}"
        )
        for quarter in range(1, 5)
    }
    OF_SERIES[f"{_index}_amplitude"] = Derived(
        "0 to 2", f"largest less smallest of {_index}_q1 to _q4", "seasonality; null if a quarter is missing"
    )
    OF_SERIES[f"{_index}_trend_per_year"] = Derived(
        "per year",
        "least squares over the years, departures from the quarters' means",
        "greening or drying of the place",
    )
    OF_SERIES[f"num_{_index}_steps"] = Derived(
        "count", "valid quarters of the series", f"what the columns of {_index} rest on"
    )

DERIVED: dict[str, Derived] = OF_RECORDS | OF_SERIES
"""Columns of ``enrich_records``, then of ``seasonal_indices``, in their order."""


def metadata_table() -> str:
    """Return ``DERIVED`` as the Markdown table of docs/metadata.md.

    Examples
    --------
    >>> metadata_table().splitlines()[0]
    '| column | unit | source | meaning |'
    """
    rows = [f"| `{name}` | {d.unit} | {d.source} | {d.description} |" for name, d in DERIVED.items()]
    return "\n".join(["| column | unit | source | meaning |", "|---|---|---|---|", *rows])
