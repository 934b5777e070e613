"""Draw the species' AUC by method, and write a run's files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from releve.files import atomic_path, disk_error, write_json
from releve.nceas.protocol import BLEND, Benchmark


def make_folder(folder: Path) -> None:
    """Make a folder for results, before minutes are spent on them.

    Raises
    ------
    ReleveError
        If it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, Path(folder)) from error


def write_results(benchmark: Benchmark, folder: Path) -> None:
    """Write ``species.csv``, ``summary.json`` and ``auc.png`` to a folder; files of an earlier run are replaced.

    Raises
    ------
    ReleveError
        If the folder cannot be written.
    """
    make_folder(folder)
    with atomic_path(folder / "species.csv") as partial:
        benchmark.scores.write_csv(partial)
    write_json(folder / "summary.json", benchmark.to_dict())
    with atomic_path(folder / "auc.png") as partial:
        draw_auc(benchmark.scores).savefig(partial, format="png", dpi=160)


def draw_auc(scores: pl.DataFrame) -> Figure:
    """Return a figure: one row a method, one dot a species, coloured by region, and the mean as a line.

    Parameters
    ----------
    scores
        As in :class:`Benchmark`.
    """
    methods = scores["method"].unique(maintain_order=True).to_list()
    regions = scores["region"].unique(maintain_order=True).to_list()
    colours = ("#0072b2", "#e69f00", "#1f7a54", "#cc79a7", "#56b4e9", "#d55e00")  # told apart by colour-blind readers
    figure = Figure(figsize=(7.5, 1.3 + 0.55 * len(methods)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for m, method in enumerate(methods):
        for r, region in enumerate(regions):
            auc = scores.filter((pl.col("method") == method) & (pl.col("region") == region))["auc"].to_numpy()
            height = m + 0.22 * (r - (len(regions) - 1) / 2) * 3 / max(len(regions), 3)
            label = region if m == 0 else None
            axes.plot(auc, [height] * len(auc), "o", ms=3.5, alpha=0.6, mec="none", color=colours[r % 6], label=label)
        mean = float(scores.filter(pl.col("method") == method)["auc"].to_numpy().mean())
        axes.plot([mean, mean], [m - 0.38, m + 0.38], color="#22282b", lw=1.6)
        axes.annotate(f"{mean:.3f}", (mean, m - 0.4), ha="center", va="bottom", fontsize=8)
    axes.axvline(0.5, color="#d9ddd8", lw=0.8, zorder=0)
    axes.set_yticks(range(len(methods)), methods)
    axes.get_yticklabels()[methods.index(BLEND)].set_fontweight("bold")
    axes.invert_yaxis()
    axes.set_xlabel("AUC of a species on independent plots; the line is the mean")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(regions), loc="upper center", bbox_to_anchor=(0.5, 1.16), fontsize=8)
    return figure
