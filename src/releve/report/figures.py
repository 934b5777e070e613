"""Figures as SVG inside the page: one style, the object-oriented matplotlib, nothing global."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

ACCENT = "#1f7a54"
INK = "#22282b"
SOFT = "#6b7478"
RULE = "#d9ddd8"
PALE = "#f6f7f4"
WARM = "#c2571a"
CATEGORIES = ("#0072b2", "#e69f00", "#1f7a54", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#5d4a8a")
"""After Okabe and Ito: told apart by colour-blind readers."""
SCORE_COLOURS: Colormap = LinearSegmentedColormap.from_list(
    "score", ["#f0d9a0", "#b9c27d", "#5fa777", "#1f7a6b", "#0e4a5c", "#0c2340"]
)
"""From sand (0) to deep blue (1); lightness falls all the way, so that it reads in grey too."""
MAX_VECTOR_POINTS = 1200
"""Above this, points are drawn as a picture inside the SVG: the page stays small."""
FIGURE_WIDTH_IN = 5.0
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "releve",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.dpi": 220,
    "savefig.facecolor": "none",
}
FONTS = "font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

LABEL_WIDTH = 26
"""Letters of a row's name on one line."""


@dataclass(frozen=True)
class Dots:
    """One row of a dot chart.

    Parameters
    ----------
    label
        Its name.
    mean
        Where the large dot is.
    points
        Small dots, such as one a seed.
    low, high
        Ends of the interval; NaN or None where there is none.
    colour
        Of dot and interval.
    hollow
        Draw a ring, for what is no model.
    """

    label: str
    mean: float
    points: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    colour: str = SOFT
    hollow: bool = False


def new_figure(height_in: float, width_in: float = FIGURE_WIDTH_IN) -> Figure:
    """Return an empty figure; its axes must be made and drawn inside ``mpl.rc_context(STYLE)``."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return a figure as an SVG element to stand in a page.

    Parameters
    ----------
    figure
        A finished figure.
    name
        Short and unique on the page; set before every id, since figures share one page.
    description
        What a screen reader says in place of the picture.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(?::xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    # matplotlib writes the fonts it found on this machine; the reader's own are asked for instead.
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", rf"\1 sans-serif; {FONTS}", text)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    label = f'<svg role="img" aria-label="{escape(description)}" '
    return Markup(text.replace("<svg ", label, 1).strip())  # every text in it was escaped by matplotlib


def draw_dots(rows: Sequence[Dots], name: str, label: str, description: str) -> Markup:
    """Return a chart with one line a row: interval, small dots, and a large dot at the mean."""
    with mpl.rc_context(STYLE):
        figure = new_figure(0.75 + 0.3 * len(rows))
        axes = figure.add_subplot()
        axes.grid(axis="x")
        for y, row in enumerate(rows):
            if row.low is not None and row.high is not None and np.isfinite([row.low, row.high]).all():
                axes.plot([row.low, row.high], [y, y], color=row.colour, linewidth=2.2, solid_capstyle="round")
            if row.points:
                axes.plot(row.points, [y] * len(row.points), "o", color=row.colour, markersize=4, alpha=0.45, mew=0)
            face = "white" if row.hollow else row.colour
            axes.plot([row.mean], [y], "o", color=row.colour, markersize=7.5, markerfacecolor=face, mew=1.4)
        axes.set_yticks(range(len(rows)), [escape_math(textwrap.fill(row.label, LABEL_WIDTH)) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(nbins=5))
        axes.set_xlabel(label, loc="right")  # beside long names the axes are narrower than these words
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_fontweight("bold" if row.colour == ACCENT else "normal")
        return to_svg(figure, name, description)


def draw_reliability(
    mean_prob: ArrayLike, observed_share: ArrayLike, num_cells: ArrayLike, name: str, description: str
) -> Markup:
    """Return predicted against observed frequency on log axes, with Wilson 95 % intervals.

    Bins in which nothing was observed have no place on a log axis; their interval reaches down to the frame.
    """
    probs, shares, cells = (np.asarray(values, float) for values in (mean_prob, observed_share, num_cells))
    keep = probs > 0
    probs, shares, cells = probs[keep], shares[keep], cells[keep]
    low, high = wilson_interval(shares * cells, cells)
    positive = np.concatenate([probs, shares[shares > 0]])
    floor = 10.0 ** np.floor(np.log10(positive.min())) if len(positive) else 1e-4
    with mpl.rc_context(STYLE):
        figure = new_figure(4.2)
        axes = figure.add_subplot()
        _draw_identity(axes, floor)
        axes.vlines(probs, np.maximum(low, floor), high, color=ACCENT, linewidth=1.2, alpha=0.6)
        seen = shares > 0
        axes.plot(probs[seen], shares[seen], "o-", color=ACCENT, markersize=5, linewidth=1)
        axes.set(xlabel="predicted probability", ylabel="observed share of plots")
        return to_svg(figure, name, description)


def draw_reliability_by(
    lines: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike]], name: str, description: str
) -> Markup:
    """Return predicted against observed frequency on log axes, one line a class.

    Parameters
    ----------
    lines
        For each class its label, mean probabilities, observed shares and numbers of cells. Bins with an expected
        count under 5, or nothing observed, are left out: they say too little, or have no place on a log axis.
    name, description
        As in :func:`to_svg`.
    """
    parts = []
    for label, *values in lines:
        probs, shares, cells = (np.asarray(value, float) for value in values)
        keep = (probs * cells >= 5) & (shares > 0)
        parts.append((label, probs[keep], shares[keep]))
    drawn = np.concatenate([np.concatenate([probs, shares]) for _, probs, shares in parts])
    floor = 10.0 ** np.floor(np.log10(drawn.min())) if len(drawn) else 1e-4
    with mpl.rc_context(STYLE):
        figure = new_figure(4.2)
        axes = figure.add_subplot()
        _draw_identity(axes, floor)
        for (label, probs, shares), colour in zip(parts, category_colours(len(parts)), strict=True):
            axes.plot(probs, shares, "o-", color=colour, markersize=3.6, linewidth=1.1, label=escape_math(label))
        axes.set(xlabel="predicted probability", ylabel="observed share of plots")
        axes.legend(loc="upper left", handlelength=1.4)
        return to_svg(figure, name, description)


def draw_richness(num_observed: ArrayLike, num_predicted: ArrayLike, name: str, description: str) -> tuple[Markup, int]:
    """Return observed against predicted list lengths with the 1:1 line, and how many plots lie beyond the frame."""
    observed, predicted = np.asarray(num_observed, float), np.asarray(num_predicted, float)
    both = np.concatenate([observed, predicted])
    limit = max(1.0, float(np.ceil(np.quantile(both, 0.995) * 1.05))) if len(both) else 1.0
    beyond = int(((observed > limit) | (predicted > limit)).sum())
    with mpl.rc_context(STYLE):
        figure = new_figure(4.2)
        axes = figure.add_subplot()
        axes.plot([0, limit], [0, limit], color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        if len(observed) <= MAX_VECTOR_POINTS:
            axes.plot(observed, predicted, "o", color=ACCENT, markersize=3.6, alpha=0.4, mew=0)
        else:
            width = max(1, int(np.ceil(limit / 60)))
            edges = np.arange(-0.5, limit + width, width)
            count, _, _ = np.histogram2d(observed, predicted, (edges, edges))
            shown = np.ma.masked_equal(count.T, 0)
            norm = mpl.colors.LogNorm(1, max(2.0, float(count.max())))
            mesh = axes.pcolormesh(edges, edges, shown, cmap=SCORE_COLOURS, norm=norm, rasterized=True)
            bar = figure.colorbar(mesh, ax=axes, shrink=0.6, label="plots", aspect=28, format="{x:,.0f}")
            bar.outline.set_visible(False)
            bar.minorticks_off()
        axes.set(xlim=(-0.5, limit), ylim=(-0.5, limit), aspect="equal")
        axes.set(xlabel="species observed", ylabel="species predicted")
        return to_svg(figure, name, description), beyond


def draw_curves(members: Sequence[dict[str, Any]], name: str, description: str) -> Markup:
    """Return loss and sF1 of the selection rows by epoch, one colour a label; the epoch that was kept carries a dot.

    Parameters
    ----------
    members
        ``label`` and ``logs`` (rows with ``epoch, train_loss, selection_loss, selection_sf1``) of each member, and
        ``kept``, the epoch of its weights, if there were rows to select it on.
    name, description
        As in :func:`to_svg`.
    """
    labels = list(dict.fromkeys(member["label"] for member in members))
    colours = dict(zip(labels, category_colours(len(labels)), strict=True))
    with mpl.rc_context(STYLE):
        figure = new_figure(4.6)
        upper, lower = figure.subplots(2, 1, sharex=True)
        for axes in (upper, lower):
            axes.grid(axis="y")
        for member in members:
            logs, colour = member["logs"], colours[member["label"]]
            epochs = [log["epoch"] + 1 for log in logs]
            upper.plot(epochs, _column(logs, "train_loss"), color=colour, linewidth=1, linestyle=(0, (3, 2)))
            upper.plot(epochs, _column(logs, "selection_loss"), color=colour)
            scores = _column(logs, "selection_sf1")
            label = labels.pop(0) if labels and labels[0] == member["label"] else None  # each once in the legend
            lower.plot(epochs, scores, color=colour, label=label)
            if member["kept"] is not None:
                at = [log["epoch"] for log in logs].index(member["kept"])
                lower.plot([epochs[at]], [scores[at]], "o", color=colour, markersize=5)
        upper.set_ylabel("loss")
        lower.set(ylabel="selection sF1", xlabel="epoch")
        lower.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=8))
        solid = mpl.lines.Line2D([], [], color=SOFT, label="selection")
        dashed = mpl.lines.Line2D([], [], color=SOFT, linewidth=1, linestyle=(0, (3, 2)), label="training")
        upper.legend(handles=[solid, dashed], loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)
        if 1 < len(colours) <= len(CATEGORIES):
            lower.legend(loc="lower right", ncols=2 if len(colours) > 3 else 1)
        return to_svg(figure, name, description)


def wilson_interval(hits: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % Wilson interval of a share.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference,
    doi:10.1080/01621459.1927.10502953

    Examples
    --------
    >>> low, high = wilson_interval([5], [10])
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.237], [0.763])
    """
    hits, trials = np.asarray(hits, float), np.asarray(trials, float)
    z = 1.959963984540054
    share = hits / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def category_colours(count: int) -> list[Any]:
    """Return as many colours, from the palette of categories or, if those do not reach, evenly from a scale."""
    if count <= len(CATEGORIES):
        return list(CATEGORIES[:count])
    return list(SCORE_COLOURS(np.linspace(0, 1, count)))


def escape_math(text: str) -> str:
    """Return a text that matplotlib does not take for a formula: the dollar sign is made plain."""
    return text.replace("$", r"\$")


def add_legend_below(axes: Axes, count: int) -> None:
    """Draw the legend under the axes in rows of up to five."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=min(count, 5),
        handletextpad=0.2,
        columnspacing=1.2,
        markerscale=1.6,
    )


def _draw_identity(axes: Axes, floor: float) -> None:
    """Draw log axes from a floor to 1 with the line on which both are equal; ticks are plain numbers."""
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.25), ylim=(floor, 1.25), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda tick, _: format_tick(tick))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.grid()
    axes.plot([floor, 1], [floor, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))


def format_tick(value: float) -> str:
    """Return a tick as a plain number, without the digits that a power of ten gains on its way.

    Examples
    --------
    >>> format_tick(9.999999999999999e-06), format_tick(0.1), format_tick(1.0)
    ('0.00001', '0.1', '1')
    """
    return np.format_float_positional(float(f"{value:.6g}"), trim="-")


def _column(logs: Sequence[dict[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if log.get(key) is None else log[key] for log in logs], float)
