"""What grouping did to the records: numbers, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from releve.prepare.pseudoplots.group import Pseudoplots

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
INK, SOFT, ACCENT, PALE = "#22282b", "#6b7478", "#1f7a54", "#c9b98a"
STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def describe(pseudoplots: Pseudoplots, records: pl.DataFrame) -> dict[str, Any]:
    """Return numbers, ready for JSON, that say what grouping did to the records it was given.

    Parameters
    ----------
    pseudoplots
        What ``group_records`` returned.
    records
        What it was given.

    Returns
    -------
    dict
        ``num_records``, ``num_grouped``, ``num_pseudoplots``, ``num_species``, ``dropped``; quantiles (keys ``q05``
        to ``q95``; NaN without rows) of ``species_per_survey`` (before: by survey id) and ``species_per_pseudoplot``
        (after), ``records_per_pseudoplot``, ``visits_per_pseudoplot``, ``spread_m``, ``trust``; the shares
        ``single_species_before``, ``single_species_after``, ``without_trust``.

    Examples
    --------
    >>> from releve.prepare.config import PseudoplotConfig
    >>> from releve.prepare.pseudoplots.group import group_records
    >>> records = pl.DataFrame({"survey_id": [1, 2, 3], "species_id": [7, 8, 7],
    ...                         "lon": [10.001, 10.002, 10.1], "lat": [52.001, 52.001, 52.0]})
    >>> found = describe(group_records(records, PseudoplotConfig()), records)
    >>> found["num_pseudoplots"], found["single_species_before"], found["single_species_after"]
    (2, 1.0, 0.5)
    """
    before, after = _species_per_survey(records), pseudoplots.table["num_species"].to_numpy()
    columns = {
        "records_per_pseudoplot": "num_records",
        "visits_per_pseudoplot": "num_dates",
        "spread_m": "spread_m",
        "trust": "trust",
    }
    return {
        "num_records": len(records),
        "num_grouped": len(pseudoplots.members),
        "num_pseudoplots": len(pseudoplots.table),
        "num_species": pseudoplots.labels["species_id"].n_unique(),
        "dropped": dict(pseudoplots.dropped),
        "species_per_survey": _quantiles(before),
        "species_per_pseudoplot": _quantiles(after),
        **{name: _quantiles(pseudoplots.table[column].to_numpy()) for name, column in columns.items()},
        "single_species_before": _share(before == 1),
        "single_species_after": _share(after == 1),
        "without_trust": _share(pseudoplots.table["trust"].to_numpy() == 0),
    }


def draw_diagnostics(pseudoplots: Pseudoplots, path: Path, *, records: pl.DataFrame | None = None) -> None:
    """Write a PNG: species per row before and after grouping, where the effort went, and the trust in silence.

    Parameters
    ----------
    pseudoplots
        What ``group_records`` returned.
    path
        File to write.
    records
        What it was given, for the histogram before grouping; without them only that after is drawn.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.7), dpi=160, layout=ConstrainedLayoutEngine(wspace=0.08))
        richness, effort, trust = figure.subplots(1, 3, width_ratios=(1, 1, 1))
        before = None if records is None else _species_per_survey(records)
        _draw_richness(richness, before, pseudoplots.table["num_species"].to_numpy())
        _draw_effort(effort, pseudoplots.table, figure)
        _draw_trust(trust, pseudoplots.table["trust"].to_numpy())
        figure.savefig(path, format="png")


def _species_per_survey(records: pl.DataFrame) -> NDArray[np.int64]:
    pairs = records.select("survey_id", "species_id").drop_nulls().unique()
    return pairs.group_by("survey_id").len().get_column("len").cast(pl.Int64).to_numpy()


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    found = np.quantile(values, QUANTILES) if len(values) else np.full(len(QUANTILES), np.nan)
    return {f"q{round(100 * q):02d}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _share(condition: NDArray[np.bool_]) -> float:
    return float(condition.mean()) if len(condition) else float("nan")


def _draw_richness(axes: Axes, before: NDArray[np.int64] | None, after: NDArray[np.int64]) -> None:
    """Draw both histograms over classes that double in width: 1, 2-3, 4-7, ..."""
    top = max(int(values.max(initial=1)) for values in (after, before) if values is not None)
    edges = 2.0 ** np.arange(int(np.log2(top)) + 2)
    sides = [(before, "before: a survey id", PALE, -0.21), (after, "after: a pseudo-plot", ACCENT, 0.21)]
    places = np.arange(len(edges) - 1)
    for values, label, colour, shift in sides:
        if values is not None and len(values):
            axes.bar(places + shift, np.histogram(values, edges)[0] / len(values), 0.4, color=colour, label=label)
    names = [
        f"{low:.0f}" if high - low == 1 else f"{low:.0f}–{high - 1:.0f}"
        for low, high in zip(edges, edges[1:], strict=False)
    ]
    axes.set_xticks(places, names, rotation=45 if len(names) > 5 else 0, ha="right" if len(names) > 5 else "center")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set(title="Species per row", xlabel="number of species", ylabel="share of rows")
    if axes.containers:
        axes.legend(loc="upper right")


def _draw_effort(axes: Axes, table: pl.DataFrame, figure: Figure) -> None:
    axes.set(title="Records grouped", xlabel="longitude", ylabel="latitude")
    if not len(table):
        return
    lon, lat = table["lon"].to_numpy(), table["lat"].to_numpy()
    middle = np.cos(np.radians(np.clip(lat.mean(), -75, 75)))
    wide, high = max(np.ptp(lon) * middle, 0.01), max(np.ptp(lat), 0.01)
    columns = int(np.clip(45 * np.sqrt(wide / high), 8, 90))
    drawn = axes.hexbin(
        lon, lat, table["num_records"].to_numpy().astype(float), reduce_C_function=np.sum, linewidths=0.1,
        gridsize=(columns, max(4, int(columns / np.sqrt(3) * high / wide))), cmap="YlGnBu", norm=LogNorm(),
    )  # fmt: skip
    axes.set_aspect(1 / middle, adjustable="datalim" if wide < high / 4 or high < wide / 4 else "box")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="records in a hexagon")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _draw_trust(axes: Axes, trust: NDArray[np.float64]) -> None:
    if len(trust):
        axes.hist(trust, 20, range=(0, 1), weights=np.full(len(trust), 1 / len(trust)), color=ACCENT, rwidth=0.9)
        axes.annotate(
            f"{100 * np.mean(trust == 0):.0f} % have none\nmedian {np.median(trust):.2f}",
            (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", color=INK,
        )  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set(title="Trust in silence", xlabel="trust", ylabel="share of pseudo-plots", xlim=(0, 1))
