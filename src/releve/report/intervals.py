"""Tables by group with a small interval plot in every row: where a model works, and where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup, escape

from releve.report.page import format_interval, format_score, is_number

WIDTH, HEIGHT = 132.0, 16.0
MAX_ROWS = 24
MAX_COLUMNS = 2
"""Scores beside the one that is plotted."""
NAMES = {
    "sample_f1": "sF1",
    "macro_f1": "macro F1",
    "f1": "F1",
    "recall": "recall",
    "precision": "precision",
    "micro_f1": "micro F1",
    "auc_macro": "AUC",
    "auc": "AUC",
    "ap_macro": "AP",
    "average_precision": "AP",
    "boyce": "Boyce",
    "tss": "TSS",
    "coverage": "coverage",
    "list_length": "species listed",
    "false_list_rate": "wrong in list",
    "slope": "slope",
    "intercept": "intercept",
    "ece": "ECE",
    "brier": "Brier",
    "richness_bias": "bias",
}
"""Scores that a table shows, the most telling first, in the words of its head."""
DIGITS = {"richness_bias": 1, "list_length": 1, "brier": 4, "ece": 4, "slope": 2, "intercept": 2}


@dataclass(frozen=True)
class GroupTable:
    """A table with one row a group, ready for the page.

    Parameters
    ----------
    name, title, caption
        Name of the file, heading and explanation.
    head
        Names of the columns after the group's.
    rows
        For each group: ``group``, ``count``, ``plot`` (an interval plot), ``cells`` (texts) and ``interval``.
    counted
        What ``count`` counts.
    main
        Name of the score that is plotted.
    ends
        Ends of the plots' axis.
    num_more
        Groups that were left off, the smallest.
    """

    name: str
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    counted: str
    main: str
    ends: tuple[str, str]
    num_more: int = 0


def make_table(
    table: pl.DataFrame, name: str, title: str, caption: str, *, marks: dict[str, Any], by_size: bool = False
) -> GroupTable | None:
    """Return a table of scores by group; None if it holds no score.

    Parameters
    ----------
    table
        ``group``, a count whose name starts with ``num_``, and scores of ``NAMES``, some with ``_low`` and ``_high``.
        The first score of ``NAMES`` that has a value is plotted, beside at most two others.
    name, title, caption
        As in :class:`GroupTable`.
    marks
        By score, the value over all groups: a thin line in every plot. A column ``target`` of the table goes before.
    by_size
        Put the largest groups first, and leave off all but 24; else the rows stay as they are.
    """
    scores = [score for score in NAMES if score in table.columns and table[score].drop_nulls().len()]
    if not scores:
        return None
    main, others = scores[0], scores[1 : 1 + MAX_COLUMNS]
    count = next((column for column in table.columns if column.startswith("num_")), None)
    if by_size and count:
        table = table.sort(count, descending=True, nulls_last=True)
    rows = table.to_dicts()
    shown = rows[:MAX_ROWS] if by_size else rows
    low, high = _scale(shown, main, marks.get(main))
    made = tuple(
        {
            "group": row["group"] if row["group"] is not None else "not known",
            "count": row[count] if count else None,
            "plot": draw_interval(
                *(row.get(key) for key in (main, f"{main}_low", f"{main}_high")),
                ends=(low, high),
                mark=row.get("target", marks.get(main)),
            ),
            "value": format_score(row[main], DIGITS.get(main, 3)),
            "interval": format_interval(row.get(f"{main}_low"), row.get(f"{main}_high"), DIGITS.get(main, 3)),
            "cells": [format_score(row[score], DIGITS.get(score, 3)) for score in others],
        }
        for row in shown
    )
    return GroupTable(
        name=name,
        title=title,
        caption=caption,
        head=tuple(NAMES[score] for score in others),
        rows=made,
        counted=(count or "").removeprefix("num_").replace("surveys", "plots"),
        main=NAMES[main],
        ends=(format_score(low, 2), format_score(high, 2)),
        num_more=len(rows) - len(shown),
    )


def draw_interval(
    value: float | None, low: float | None, high: float | None, *, ends: tuple[float, float], mark: float | None
) -> Markup:
    """Return a score and its interval as a small picture, in the page's own colours.

    Parameters
    ----------
    value, low, high
        The score and its interval; None where not known.
    ends
        Left and right end of the axis.
    mark
        Where a thin upright line stands, for comparison.
    """
    span = max(ends[1] - ends[0], 1e-9)

    def at(number: float) -> str:
        return f"{3 + (WIDTH - 6) * min(max((number - ends[0]) / span, 0.0), 1.0):.1f}"

    middle = f"{HEIGHT / 2:g}"
    parts = [f'<line class="axis" x1="0" x2="{WIDTH:g}" y1="{middle}" y2="{middle}"/>']
    if is_number(mark):
        assert mark is not None
        parts.append(f'<line class="mark" x1="{at(mark)}" x2="{at(mark)}" y1="0" y2="{HEIGHT:g}"/>')
    if is_number(low) and is_number(high):
        assert low is not None and high is not None
        parts.append(f'<line class="span" x1="{at(low)}" x2="{at(high)}" y1="{middle}" y2="{middle}"/>')
    if is_number(value):
        assert value is not None
        parts.append(f'<circle cx="{at(value)}" cy="{middle}" r="3.6"/>')
    label = f"{format_score(value)}, {format_interval(low, high)}"
    return Markup(  # numbers only
        f'<svg class="interval" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}">'
        f"{''.join(parts)}</svg>"
    )


def _scale(rows: Sequence[dict[str, Any]], main: str, mark: float | None) -> tuple[float, float]:
    """Return ends of an axis that holds all that is drawn: multiples of 0.05."""
    drawn = [row.get(key) for row in rows for key in (main, f"{main}_low", f"{main}_high", "target")]
    values = np.array([value for value in [*drawn, mark] if is_number(value)], float)
    if not len(values):
        return 0.0, 1.0
    low, high = np.floor(values.min() * 20 + 1e-9) / 20, np.ceil(values.max() * 20 - 1e-9) / 20
    return float(low), float(max(high, low + 0.05))
