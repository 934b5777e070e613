"""From facts and figures to one HTML page that needs nothing else: templates, and how numbers are written."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import releve

DASH = "–"
"""Stands for a number that is not defined."""
TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: str, **facts: Any) -> str:
    """Return a page as HTML text; every fact is escaped unless it is ``Markup``."""
    return _render(template, facts, autoescape=True)


def render_text(template: str, **facts: Any) -> str:
    """Return a plain text; nothing is escaped."""
    return _render(template, facts, autoescape=False)


def _render(template: str, facts: dict[str, Any], *, autoescape: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": format_count,
        "score": format_score,
        "duration": format_duration,
        "interval": format_interval,
    }
    return environment.get_template(template).render(releve_version=releve.__version__, **facts)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number; None, NaN, infinity and what is no number are not.

    Examples
    --------
    >>> [is_number(value) for value in (0.5, None, float("nan"), {})]
    [True, False, False, False]
    """
    return isinstance(value, Real) and math.isfinite(value)


def format_score(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Return a score with a fixed number of decimals and a true minus sign; a dash where it is not defined.

    Examples
    --------
    >>> format_score(0.31249), format_score(-0.5, 2), format_score(0.5, 2, signed=True), format_score(None)
    ('0.312', '−0.50', '+0.50', '–')
    >>> format_score(-0.0004, 2)
    '0.00'
    """
    if value is None or not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # nothing is less than nothing
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def format_interval(low: float | None, high: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Return ``low to high``, or a dash where either end is not defined.

    Examples
    --------
    >>> format_interval(0.3, 0.35), format_interval(float("nan"), 0.35)
    ('0.300 to 0.350', '–')
    """
    if not (is_number(low) and is_number(high)):
        return DASH
    return f"{format_score(low, digits, signed=signed)} to {format_score(high, digits, signed=signed)}"


def format_count(value: float | None) -> str:
    """Return a whole number with separators; a dash where there is none.

    Examples
    --------
    >>> format_count(12345), format_count(None)
    ('12,345', '–')
    """
    return DASH if value is None or not math.isfinite(value) else f"{value:,.0f}"


def format_duration(seconds: float) -> str:
    """Return a length of time in the unit a person would use.

    Examples
    --------
    >>> [format_duration(value) for value in (0.42, 75, 119.9, 7260)]
    ['0.4 s', '1 min 15 s', '2 min', '2 h 1 min']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (0 if hours else rest, "s")]
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"
