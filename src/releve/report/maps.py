"""Maps of plots: equal-area, with a graticule and a scale bar, and nothing downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer

from releve.geo import equal_area_crs, project
from releve.report.figures import (
    FIGURE_WIDTH_IN,
    MAX_VECTOR_POINTS,
    PALE,
    RULE,
    SCORE_COLOURS,
    SOFT,
    STYLE,
    add_legend_below,
    to_svg,
)

STEPS_DEG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60)
KEY_HEIGHT_IN = 0.45
"""Room under the map for the legend or the colour bar."""
MIN_EXTENT_M = 2_000.0
"""A map of a single place shows this much ground."""


@dataclass(frozen=True, eq=False)
class Layer:
    """Points that share one look.

    Parameters
    ----------
    lon, lat
        (N,) degrees.
    colour
        One colour for all.
    values
        (N,) scores in place of one colour; NaN is not drawn.
    label
        Its name in the legend, if it is to have one.
    size
        Area of a point, relative to the others.
    marker
        A marker of matplotlib.
    """

    lon: ArrayLike
    lat: ArrayLike
    colour: Any = SOFT
    values: ArrayLike | None = None
    label: str = ""
    size: float = 1.0
    marker: str = "o"


def draw_map(layers: Sequence[Layer], name: str, description: str, *, colour_label: str = "") -> Markup | None:
    """Return a map of the layers, the last on top; None if no layer has a place.

    Parameters
    ----------
    layers
        What to draw.
    name, description
        As in :func:`releve.report.figures.to_svg`.
    colour_label
        Title of the colour bar, drawn if a layer has values.
    """
    known = [_with_known_places(layer) for layer in layers]
    known = [layer for layer in known if np.size(layer.lon)]
    if not known:
        return None
    lon = np.concatenate([np.asarray(layer.lon) for layer in known])
    lat = np.concatenate([np.asarray(layer.lat) for layer in known])
    crs = equal_area_crs(lon, lat)
    west, south, east, north = map_frame(project(lon, lat, crs))
    map_in = FIGURE_WIDTH_IN * (north - south) / (east - west)
    area = float(np.clip(18_000 / len(lon), 5.0, 26.0))
    with mpl.rc_context(STYLE):
        figure = Figure((FIGURE_WIDTH_IN, map_in + KEY_HEIGHT_IN))
        axes = figure.add_axes(
            (0.002, KEY_HEIGHT_IN / figure.get_figheight(), 0.996, 0.998 * map_in / figure.get_figheight())
        )
        axes.set(xlim=(west, east), ylim=(south, north), aspect="equal", facecolor=PALE)
        draw_graticule(axes, crs)
        draw_scale_bar(axes)
        points = None
        for layer in known:
            xy_m = project(layer.lon, layer.lat, crs)
            colouring = (
                {"color": layer.colour}
                if layer.values is None
                else {"c": np.asarray(layer.values), "cmap": SCORE_COLOURS, "vmin": 0.0, "vmax": _top(layer.values)}
            )
            drawn = axes.scatter(
                xy_m[:, 0],
                xy_m[:, 1],
                s=area * layer.size,
                marker=layer.marker,
                linewidths=0,
                label=layer.label or None,
                rasterized=len(xy_m) > MAX_VECTOR_POINTS,
                zorder=3,
                **colouring,
            )
            points = drawn if layer.values is not None else points
        if points is not None:
            bar = figure.add_axes((0.46, 0.3 / figure.get_figheight(), 0.5, 0.09 / figure.get_figheight()))
            figure.colorbar(points, cax=bar, orientation="horizontal").outline.set_visible(False)
            figure.text(0.43, 0.345 / figure.get_figheight(), colour_label, ha="right", va="center", fontsize=9)
        labelled = sum(bool(layer.label) for layer in known)
        if labelled:
            add_legend_below(axes, labelled)
        for spine in axes.spines.values():
            spine.set(visible=True, color=RULE)
        return to_svg(figure, name, description)


def map_frame(xy_m: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return west, south, east, north of a frame around the points, in metres: with a margin, and never a line.

    Examples
    --------
    >>> map_frame(np.array([[0.0, 0.0], [10_000.0, 10_000.0]]))
    (-500.0, -500.0, 10500.0, 10500.0)
    >>> map_frame(np.array([[5.0, 5.0]]))
    (-995.0, -595.0, 1005.0, 605.0)
    """
    low, high = xy_m.min(axis=0), xy_m.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    longest = max(float(half.max()), MIN_EXTENT_M / 2)
    half = np.maximum(half, longest * np.array([0.9, 0.5])) + 0.1 * longest  # neither a strip nor a tower
    (west, south), (east, north) = (middle - half).tolist(), (middle + half).tolist()
    return west, south, east, north


def draw_graticule(axes: Axes, crs: str, *, most_meridians: int = 7) -> None:
    """Draw meridians and parallels at round degrees inside the axes' limits, named where they meet the frame."""
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    inverse = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    x, y = np.meshgrid(np.linspace(west, east, 60), np.linspace(south, north, 60))
    lon, lat = inverse.transform(x, y)
    finite = np.isfinite(lon) & np.isfinite(lat)
    if not finite.any():
        return
    # Degrees east of the centre, so that a map across the antimeridian has no jump.
    centre = float(lon[finite][np.argmin(np.hypot(x - x.mean(), y - y.mean())[finite])])
    east_of = (lon[finite] - centre + 180) % 360 - 180
    lon_range = (centre + east_of.min(), centre + east_of.max())
    lat_range = (max(lat[finite].min(), -89.0), min(lat[finite].max(), 89.0))
    for meridian in round_degrees(*lon_range, most_meridians):
        line = project(np.full(200, meridian), np.linspace(lat_range[0] - 5, lat_range[1] + 5, 200).clip(-89, 89), crs)
        axes.plot(line[:, 0], line[:, 1], color=RULE, linewidth=0.6, zorder=1)
        at = _crossing(line[:, 1], line[:, 0], south)
        if at is not None and west < at < east:
            axes.annotate(degree_text(meridian, "E", "W"), (at, south), (0, 3), **_LABEL, ha="center", va="bottom")
    for parallel in round_degrees(*lat_range):
        span = lon_range[1] - lon_range[0]
        line = project(
            np.linspace(lon_range[0] - span / 10, lon_range[1] + span / 10, 200), np.full(200, parallel), crs
        )
        axes.plot(line[:, 0], line[:, 1], color=RULE, linewidth=0.6, zorder=1)
        at = _crossing(line[:, 0], line[:, 1], west)
        if at is not None and south < at < north:
            axes.annotate(degree_text(parallel, "N", "S"), (west, at), (3, 0), **_LABEL, ha="left", va="center")
    axes.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[])


def round_degrees(low: float, high: float, at_most: int = 7) -> list[float]:
    """Return the round degrees between two, at most so many.

    Examples
    --------
    >>> round_degrees(-9.3, 31.0), round_degrees(5.02, 5.09)
    ([0.0, 10.0, 20.0, 30.0], [5.02, 5.04, 5.06, 5.08])
    """
    step = next((step for step in STEPS_DEG if (high - low) / step <= at_most), STEPS_DEG[-1])
    first = int(np.ceil(low / step - 1e-9))
    return [float(round(k * step, 2)) for k in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def degree_text(degrees: float, positive: str, negative: str) -> str:
    """Return a longitude or latitude in words.

    Examples
    --------
    >>> [degree_text(degrees, "E", "W") for degrees in (-5.0, 0.0, 180.0, 190.0)]
    ['5° W', '0°', '180°', '170° W']
    """
    degrees = (degrees + 180) % 360 - 180 if positive == "E" else degrees
    return f"{abs(degrees):g}°" + (f" {positive if degrees > 0 else negative}" if degrees % 180 else "")


def draw_scale_bar(axes: Axes, metres_a_unit: float = 1.0) -> None:
    """Draw a bar of a round length, at most a quarter of the axes' width, in the lower right corner.

    Parameters
    ----------
    axes
        Of a map.
    metres_a_unit
        Metres on the ground for one of the axes' units from west to east.
    """
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    length_m = round_length((east - west) * metres_a_unit / 4)
    right, y = east - 0.03 * (east - west), south + 0.04 * (north - south)
    left = right - length_m / metres_a_unit
    axes.plot([left, right], [y, y], color=SOFT, linewidth=1.6, solid_capstyle="butt", zorder=4)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    axes.annotate(text, ((left + right) / 2, y), (0, 3), **_LABEL, ha="center", va="bottom")


def round_length(length_m: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not longer.

    Examples
    --------
    >>> round_length(740_000.0), round_length(30.0)
    (500000.0, 20.0)
    """
    power = 10.0 ** np.floor(np.log10(length_m))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length_m * (1 + 1e-9)))


_LABEL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7.5, "color": SOFT, "zorder": 4}


def _with_known_places(layer: Layer) -> Layer:
    lon, lat = np.asarray(layer.lon, float), np.asarray(layer.lat, float)
    keep = np.isfinite(lon) & np.isfinite(lat)
    values = layer.values
    if values is not None:
        values = np.asarray(values, float)
        keep &= np.isfinite(values)
        values = values[keep]
    return Layer(lon[keep], lat[keep], layer.colour, values, layer.label, layer.size, layer.marker)


def _top(values: ArrayLike) -> float:
    """Return the upper end of the colour scale: a round tenth above the 99th percentile, so that colours are used."""
    return max(0.1, float(np.ceil(np.quantile(np.asarray(values, float), 0.99) * 10)) / 10)


def _crossing(along: NDArray[np.float64], across: NDArray[np.float64], level: float) -> float | None:
    """Return where a line reaches a level of its one coordinate, in the other; None if it does not."""
    finite = np.isfinite(along) & np.isfinite(across)
    along, across = along[finite], across[finite]
    steps = np.flatnonzero((along[:-1] - level) * (along[1:] - level) <= 0)
    if not len(steps):
        return None
    i = int(steps[0])
    share = 0.0 if along[i + 1] == along[i] else (level - along[i]) / (along[i + 1] - along[i])
    return float(across[i] + share * (across[i + 1] - across[i]))
