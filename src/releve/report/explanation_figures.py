"""Figures of an explanation: importance, response curves, pairs, saliency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from numpy.typing import NDArray

from releve.report.figures import (
    ACCENT,
    CATEGORIES,
    INK,
    SCORE_COLOURS,
    SOFT,
    STYLE,
    Dots,
    draw_dots,
    escape_math,
    new_figure,
    to_svg,
)
from releve.report.page import format_score, is_number

MAX_LINES = 40
"""Lines of single places that are drawn."""
DIVERGING = "PuOr_r"
"""Both ways alike in lightness, told apart by colour-blind readers."""


def draw_importance(rows: Sequence[dict[str, Any]], name: str, label: str, score: str) -> Markup | None:
    """Return the chart of losses: large dots and bars everywhere shuffled, small dots within blocks; None of nothing.

    Parameters
    ----------
    rows
        ``variable``, and ``{score}``, ``{score}_low``, ``{score}_high``, ``{score}_within``.
    name
        Short and unique on the page.
    label
        Of the axis.
    score
        Name of the loss.
    """
    dots = [
        Dots(
            row["variable"],
            row[score],
            points=(row[f"{score}_within"],) if is_number(row.get(f"{score}_within")) else (),
            low=row[f"{score}_low"],
            high=row[f"{score}_high"],
            colour=ACCENT if is_number(row[f"{score}_low"]) and row[f"{score}_low"] > 0 else SOFT,
        )
        for row in rows
        if is_number(row[score])
    ]
    words = "; ".join(f"{dot.label} {format_score(dot.mean)}" for dot in dots)
    return draw_dots(dots, name, label, f"{label}: {words}") if dots else None


def draw_response(
    curves: pl.DataFrame, lines: pl.DataFrame, distribution: pl.DataFrame, name: str, label: str, response: str
) -> Markup:
    """Return the response to one variable: mean, middle 80 % and single places; species; where the surveys lie.

    Parameters
    ----------
    curves
        Of one variable: that of the subject (``is_asked``), and of the species that respond most.
    lines
        Those of single places, of the same variable and subject.
    distribution
        Of the same variable.
    name
        Short and unique on the page.
    label
        The variable with its unit.
    response
        What the subject's response is.
    """
    own, others = curves.filter("is_asked"), curves.filter(~pl.col("is_asked"))
    heights = [2.2, 1.8, 0.5] if others.height else [2.2, 0.5]
    with mpl.rc_context(STYLE):
        figure = new_figure(sum(heights) + 0.7)
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        names = own["label"].to_list() if own["label"].null_count() == 0 else None
        _draw_subject(panels[0], own, lines, names is not None)
        panels[0].set_ylabel(response)
        if others.height:
            _draw_species(panels[1], others, names is not None)
        _draw_counts(panels[-1], distribution, names is not None)
        if names is not None:
            panels[-1].set_xticks(range(len(names)), [escape_math(each) for each in names], rotation=35, ha="right")
        elif (own["value"] == own["value"].round()).all() and own.height:  # years
            panels[-1].xaxis.set_major_locator(mpl.ticker.MaxNLocator(nbins=6, integer=True))
        panels[-1].set_xlabel(escape_math(label))
        return to_svg(figure, name, f"{response} by {label}")


def _draw_subject(axes: Axes, own: pl.DataFrame, lines: pl.DataFrame, is_categorical: bool) -> None:
    values = np.arange(own.height) if is_categorical else own["value"].to_numpy()
    if is_categorical:
        axes.vlines(values, own["low"], own["high"], color=ACCENT, linewidth=5, alpha=0.3)
        axes.plot(values, own["response"], "o", color=ACCENT, markersize=7)
    else:
        places = lines["survey_id"].unique(maintain_order=True)[:MAX_LINES]
        for (_,), one in lines.filter(pl.col("survey_id").is_in(places.implode())).group_by("survey_id"):
            axes.plot(one["value"], one["response"], color=SOFT, linewidth=0.6, alpha=0.3)
        axes.fill_between(values, own["low"], own["high"], color=ACCENT, alpha=0.15, linewidth=0)
        axes.plot(values, own["response"], color=ACCENT, linewidth=2.4)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def _draw_species(axes: Axes, others: pl.DataFrame, is_categorical: bool) -> None:
    for at, ((species,), one) in enumerate(others.group_by("subject", maintain_order=True)):
        values = np.arange(one.height) if is_categorical else one["value"].to_numpy()
        style: dict[str, Any] = {"marker": "osD"[at % 3], "markersize": 3.2, "linestyle": ("-", "--", ":")[at % 3]}
        style |= {"linestyle": "none"} if is_categorical else {}
        colour = (CATEGORIES[0], CATEGORIES[5], CATEGORIES[3])[at % 3]
        axes.plot(values, one["response"], color=colour, linewidth=1.3, label=escape_math(str(species)), **style)
    axes.set_ylabel("probability")
    axes.set_ylim(0, 1.7 * max(float(others["response"].max()), 1e-6))  # type: ignore[arg-type]  # room for the names
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.08), fontsize=8, ncols=1, handlelength=1.8, labelspacing=0.25)


def _draw_counts(axes: Axes, distribution: pl.DataFrame, is_categorical: bool) -> None:
    counts = distribution["num_surveys"].to_numpy()
    if is_categorical:
        axes.bar(np.arange(len(counts)), counts, color=SOFT, width=0.6)
    elif len(counts):
        low, high = distribution["low"].to_numpy(), distribution["high"].to_numpy()
        axes.bar(low, counts, width=high - low, align="edge", color=SOFT)
    axes.set_ylabel("plots", fontsize=8)
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(nbins=2, integer=True))
    axes.tick_params(axis="y", labelsize=8)


def draw_pair(pair: pl.DataFrame, name: str, labels: tuple[str, str], response: str) -> Markup:
    """Return the mean response to two variables as a grid of colours, dark where it is high.

    Parameters
    ----------
    pair
        ``first_value, second_value, response`` of one pair and subject.
    name
        Short and unique on the page.
    labels
        The variables with their units.
    response
        What the response is.
    """
    across, up = (np.sort(pair[column].unique().to_numpy()) for column in ("first_value", "second_value"))
    table = pair.sort("second_value", "first_value")["response"].to_numpy().reshape(len(up), len(across))
    with mpl.rc_context(STYLE):
        figure = new_figure(3.9)
        axes = figure.add_subplot()
        mesh = axes.pcolormesh(np.arange(len(across)), np.arange(len(up)), table, cmap=SCORE_COLOURS, shading="nearest")
        for axis, values in ((axes.xaxis, across), (axes.yaxis, up)):
            shown = range(0, len(values), max(1, len(values) // 5))
            axis.set_ticks(
                list(shown), [f"{values[i]:,.0f}" if abs(values[i]) >= 1000 else f"{values[i]:.3g}" for i in shown]
            )
        axes.set(xlabel=escape_math(labels[0]), ylabel=escape_math(labels[1]))
        bar = figure.colorbar(mesh, ax=axes, shrink=0.7, aspect=26, label=response)
        bar.outline.set_visible(False)
        return to_svg(figure, name, f"{response} by {labels[0]} and {labels[1]}")


def draw_patch(
    raw_CHW: NDArray[np.float64], share_CHW: NDArray[np.float64], channels: Sequence[str], name: str
) -> Markup:
    """Return a patch as people see it, beside what its pixels add to the score, all channels together."""
    order = [channels.index(each) for each in ("red", "green", "blue") if each in channels] or [0]
    picture = np.nan_to_num(raw_CHW[order if len(order) == 3 else [0, 0, 0]].transpose(1, 2, 0))
    low, high = np.quantile(picture, [0.02, 0.98])
    share_HW = share_CHW.sum(axis=0)
    with mpl.rc_context(STYLE):
        figure = new_figure(2.9)
        left, right = figure.subplots(1, 2)
        left.imshow(np.clip((picture - low) / max(high - low, 1e-9), 0, 1), interpolation="nearest")
        limit = max(float(np.quantile(np.abs(share_HW), 0.99)), 1e-12)
        drawn = right.imshow(share_HW, cmap=DIVERGING, norm=TwoSlopeNorm(0, -limit, limit), interpolation="nearest")
        for axes, title in ((left, "the patch"), (right, "what pixels add")):
            axes.set(xticks=[], yticks=[])
            axes.set_title(title, fontsize=9.5, color=INK)
        bar = figure.colorbar(drawn, ax=right, shrink=0.75, aspect=18)
        bar.outline.set_visible(False)
        bar.set_ticks([-limit, 0, limit], labels=["less", "0", "more"])
        return to_svg(figure, name, "A patch, and what each pixel adds to the score")


def draw_series(share_CYQ: NDArray[np.float64], channels: Sequence[str], first_year: int | None, name: str) -> Markup:
    """Return what each step of a series adds to the score: a row a channel, steps from left to right."""
    num_channels, num_years, num_seasons = share_CYQ.shape
    table = share_CYQ.reshape(num_channels, num_years * num_seasons)
    limit = max(float(np.abs(table).max()), 1e-12)
    with mpl.rc_context(STYLE):
        figure = new_figure(0.9 + 0.32 * num_channels)
        axes = figure.add_subplot()
        drawn = axes.imshow(
            table, aspect="auto", cmap=DIVERGING, norm=TwoSlopeNorm(0, -limit, limit), interpolation="nearest"
        )
        axes.set_yticks(range(num_channels), [escape_math(str(each)) for each in channels])
        step = max(1, num_years // 6)
        years = range(0, num_years, step)
        names = [str((first_year or 0) + year) for year in years]
        axes.set_xticks([year * num_seasons - 0.5 for year in years], names)
        axes.set_xlabel("year")
        bar = figure.colorbar(drawn, ax=axes, aspect=14)
        bar.outline.set_visible(False)
        bar.set_ticks([-limit, 0, limit], labels=["less", "0", "more"])
        return to_svg(figure, name, f"What each step adds to the score, for {', '.join(map(str, channels))}")
