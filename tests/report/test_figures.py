from __future__ import annotations

import numpy as np
import pytest

from releve.report.figures import Dots, draw_dots, draw_reliability
from releve.report.maps import Layer, draw_map

from .pages import Page


def test_words_of_a_figure_stay_words() -> None:
    page = Page(draw_dots([Dots("nearest & far", 0.5, low=0.4, high=0.6)], "a", "sF1", 'say "what"'))
    assert "nearest & far" in page.text and "sF1" in page.text


def test_two_figures_on_a_page_share_no_id() -> None:
    row = [Dots("m", 0.5, points=(0.4, 0.6))]
    page = Page(draw_dots(row, "one", "x", "") + draw_dots(row, "two", "x", ""))
    assert len(page.ids) == len(set(page.ids)) > 0


def test_bins_without_an_observation_are_drawn_as_bars_only() -> None:
    assert "<svg" in draw_reliability([1e-4, 0.5], [0.0, 0.4], [1000, 10], "r", "")


@pytest.mark.parametrize(
    ("lon", "lat"),
    [([10.0, 12.0], [50.0, 51.0]), ([5.0], [5.0]), ([179.5, -179.5], [-17.0, -18.0]), ([0.0, 90.0], [89.5, 88.0])],
    ids=["Europe", "one place", "across the antimeridian", "at the pole"],
)
def test_maps_are_drawn_anywhere_on_the_globe(lon: list[float], lat: list[float]) -> None:
    page = Page(draw_map([Layer(lon, lat, label="plots")], "m", "a map") or "")
    assert "°" in page.text and "plots" in page.text and "m" in page.text


def test_points_without_a_place_or_score_are_left_out() -> None:
    assert draw_map([Layer([np.nan], [1.0])], "m", "") is None
    assert draw_map([Layer([1.0], [1.0], values=[np.nan])], "m", "") is None


def test_many_points_become_a_picture_in_the_figure() -> None:
    rng = np.random.default_rng(0)
    svg = draw_map([Layer(rng.uniform(0, 10, 5000), rng.uniform(40, 50, 5000))], "m", "") or ""
    assert "data:image/png;base64" in svg and len(svg) < 400_000
