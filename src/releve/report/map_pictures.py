"""Maps of cells as pictures: equal scale along and across, a graticule and a scale bar, and guesses striped."""

# H W rows and columns

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import rasterio
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from releve.rasters.grid import Grid, cell_sizes_m
from releve.report.figures import CATEGORIES, FIGURE_WIDTH_IN, RULE, SCORE_COLOURS, SOFT, STYLE, to_svg
from releve.report.maps import draw_graticule, draw_scale_bar

MOST_PIXELS, LEAST_PIXELS = 640, 480
"""Of a picture's longer side: of larger maps every so many cells are shown, of smaller ones each cell several times."""
STRIPE_PIXELS = 5
STRIPE = (0.87, 0.88, 0.87)
"""What is laid over guesses, so that the colours between still show."""
CHANGE_COLOURS: Colormap = mpl.colormaps["PuOr"]
"""From orange (less) over white to violet (more), or the other way round: told apart by colour-blind readers."""
TALLEST = 1.25
"""Height of a picture over its width, at most."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What a picture shows.

    Parameters
    ----------
    values_HW
        Numbers, NaN where there is none; of classes, their index in ``classes``.
    grid
        Where the cells lie.
    label
        What the colours stand for.
    outside_HW
        Where the model guesses: striped.
    has_sign
        Whether 0 stands in the middle of the colours.
    classes
        Names of classes; those without a name are grey.
    colours
        Of classes.
    """

    values_HW: NDArray[np.float64]
    grid: Grid
    label: str
    outside_HW: NDArray[np.bool_] | None = None
    has_sign: bool = False
    classes: Sequence[str] = ()
    colours: Sequence[str] = CATEGORIES


def thinned(grid: Grid) -> tuple[Grid, int]:
    """Return the grid of a picture, and of how many rows and columns it shows one.

    Examples
    --------
    >>> small, step = thinned(Grid("EPSG:3035", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 2_000, 700, 256, 256))
    >>> step, small.height, small.width, small.transform[0]
    (4, 500, 175, 40.0)
    """
    step = -(-max(grid.height, grid.width) // MOST_PIXELS)
    a, b, c, d, e, f = grid.transform
    height, width = -(-grid.height // step), -(-grid.width // step)
    return replace(grid, transform=(a * step, b, c, d, e * step, f), height=height, width=width), step


def read_thinned(file: Path, band: int = 1) -> NDArray[np.float64]:
    """Return (H, W) numbers of an image on the grid of ``thinned``, NaN where it has none; large ones by overviews."""
    with rasterio.open(file) as dataset:
        step = -(-max(dataset.height, dataset.width) // MOST_PIXELS)
        shape = -(-dataset.height // step), -(-dataset.width // step)
        values = dataset.read(band, out_shape=shape, masked=True).astype(np.float64)
    return values.filled(np.nan)


def crop(picture: Picture) -> Picture:
    """Return a picture without the rows and columns at its edges that show nothing."""
    shown = np.isfinite(picture.values_HW)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return picture
    first_row, end_row, first, end = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    a, b, c, d, e, f = picture.grid.transform
    grid = replace(
        picture.grid,
        transform=(a, b, c + a * float(first), d, e, f + e * float(first_row)),
        height=int(end_row - first_row),
        width=int(end - first),
    )
    at = slice(first_row, end_row), slice(first, end)
    outside = None if picture.outside_HW is None else picture.outside_HW[at]
    return replace(picture, values_HW=picture.values_HW[at], grid=grid, outside_HW=outside)


def draw_picture(picture: Picture, name: str, description: str) -> Markup | None:
    """Return a picture as an SVG element; None if it shows nothing.

    Parameters
    ----------
    picture
        What it shows.
    name, description
        As in :func:`releve.report.figures.to_svg`.
    """
    if not np.isfinite(picture.values_HW).any():
        return None
    picture = crop(picture)
    grid = picture.grid
    a, _, c, _, e, f = grid.transform
    across, along = cell_sizes_m(grid)
    metres_a_unit = float(across[grid.height // 2]) / abs(a)
    stretch = float(along[grid.height // 2]) / abs(e) / metres_a_unit
    shape = stretch * abs(e) * grid.height / (abs(a) * grid.width)
    map_in = FIGURE_WIDTH_IN * min(TALLEST, max(0.3, shape))
    key_in = 0.5 if not picture.classes else 0.14 + 0.2 * -(-(len(picture.classes) + 1) // 2)
    height_in = map_in + key_in
    colours = _colours_of(picture)
    with mpl.rc_context(STYLE):
        figure = Figure((FIGURE_WIDTH_IN, height_in))
        axes = figure.add_axes((0.002, key_in / height_in, 0.996, 0.998 * map_in / height_in))
        axes.set(xlim=(c, c + a * grid.width), ylim=sorted((f, f + e * grid.height)), aspect=stretch, facecolor="white")
        draw_graticule(axes, grid.crs, most_meridians=max(1, round(7 * min(1.0, TALLEST / shape))))
        draw_scale_bar(axes, metres_a_unit)
        for text in axes.texts:
            text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
        rgba = _striped(_enlarged(colours.image), picture.outside_HW)
        extent = (c, c + a * grid.width, min(f, f + e * grid.height), max(f, f + e * grid.height))
        axes.imshow(rgba if e < 0 else rgba[::-1], extent=extent, interpolation="none", aspect=stretch, zorder=2)
        for spine in axes.spines.values():
            spine.set(visible=True, color=RULE)
        _draw_key(figure, axes, colours, picture.label, height_in)
        return to_svg(figure, name, description)


@dataclass(frozen=True, eq=False)
class _Colours:
    image: NDArray[np.float64]
    """(H, W, 4) red, green, blue and how opaque."""
    scale: Any = None
    """Of a colour bar, what matplotlib makes it from; None for classes."""
    ends: str = "neither"
    """Where the bar's ends hold more than they say."""
    classes: tuple[tuple[str, Any], ...] = ()


def _colours_of(picture: Picture) -> _Colours:
    values = picture.values_HW
    known = np.isfinite(values)
    if picture.classes:
        palette = np.array([mpl.colors.to_rgba(each) for each in (*picture.colours[: len(picture.classes)], RULE)])
        index = np.where(known & (values < len(picture.classes)), np.nan_to_num(values), len(picture.classes))
        image = palette[index.astype(int)]
        named = [(each, palette[at]) for at, each in enumerate(picture.classes)]
        if (known & (values >= len(picture.classes))).any():
            named.append(("others", palette[-1]))
        image[~known] = 0
        return _Colours(image, classes=tuple(named))
    low, high = scale_of(values[known], has_sign=picture.has_sign)
    scale = mpl.cm.ScalarMappable(Normalize(low, high), CHANGE_COLOURS if picture.has_sign else SCORE_COLOURS)
    image = scale.to_rgba(np.ma.masked_invalid(values))
    image[~known] = 0
    less, more = bool((values[known] < low).any()), bool((values[known] > high).any())
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[less, more]
    return _Colours(image, scale, ends)


def scale_of(values: NDArray[np.float64], *, has_sign: bool = False) -> tuple[float, float]:
    """Return the ends of the colours: a hundredth of the values lies beyond each, and 0 is the lower if it is near.

    Examples
    --------
    >>> scale_of(np.linspace(0, 100, 101)), scale_of(np.linspace(90, 100, 101))
    ((0.0, 99.0), (90.1, 99.9))
    >>> scale_of(np.array([-3.0, 1.0]), has_sign=True)
    (-2.96, 2.96)
    """
    low, high = np.quantile(values, [0.01, 0.99]).tolist()
    if has_sign:
        most = max(abs(low), abs(high)) or 1.0
        return -most, most
    if 0 <= low < 0.35 * high:
        low = 0.0
    return low, high if high > low else low + 1.0


def _enlarged(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an image of which a small one shows each cell several times."""
    times = max(1, -(-LEAST_PIXELS // max(image.shape[:2])))
    return image.repeat(times, axis=0).repeat(times, axis=1)


def _striped(image: NDArray[np.float64], outside_HW: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return an image with stripes over what lies outside."""
    if outside_HW is None or not outside_HW.any():
        return image
    times = len(image) // len(outside_HW)
    outside = outside_HW.repeat(times, axis=0).repeat(times, axis=1)
    rows, columns = np.indices(outside.shape)
    striped = outside & ((rows + columns) // STRIPE_PIXELS % 2 == 0) & (image[..., 3] > 0)
    return np.where(striped[..., None], (*STRIPE, 1.0), image)


def _draw_key(figure: Figure, axes: Axes, colours: _Colours, label: str, height_in: float) -> None:
    """Draw a colour bar or the names of classes under the map."""
    if colours.classes:
        handles = [Patch(facecolor=colour, label=name) for name, colour in colours.classes]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -0.01), ncols=2, handlelength=1.0)
        return
    bar = figure.add_axes((0.5, 0.33 / height_in, 0.46, 0.09 / height_in))
    drawn = figure.colorbar(colours.scale, cax=bar, orientation="horizontal", extend=colours.ends)
    drawn.outline.set_visible(False)
    drawn.ax.tick_params(color=SOFT)
    drawn.ax.locator_params(nbins=5)
    figure.text(0.47, 0.375 / height_in, textwrap.fill(label, 36), ha="right", va="center", fontsize=8.5)
