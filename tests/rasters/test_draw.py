"""Random places are even on the ground and have a value in every layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rasters.fakes import CENTRE, LAEA, counting, write_raster
from releve.errors import RasterError
from releve.ingest.config import RasterConfig
from releve.rasters.draw import draw_places
from releve.rasters.layers import open_layers
from releve.rasters.sample import sample_layers


def test_every_place_has_a_value_in_all_layers(tmp_path: Path) -> None:
    half = counting(20, 20)
    half[:, 10:] = np.nan
    write_raster(tmp_path / "half.tif", half, nodata=np.nan)
    write_raster(tmp_path / "wide.tif", counting(40, 40), west=0.0, north=60.0)
    layers = open_layers([RasterConfig(file=("half.tif", "wide.tif"))], tmp_path)
    lon, lat = draw_places(layers, 300, np.random.default_rng(0))
    assert len(lon) == 300 and np.isfinite(sample_layers(layers, lon, lat).values).all()
    assert lon.max() < 20.0 and lon.min() >= 10.0
    again = draw_places(layers, 300, np.random.default_rng(0))
    np.testing.assert_array_equal(again, (lon, lat))


def test_places_are_even_by_area_not_by_degrees(tmp_path: Path) -> None:
    """From 0 to 60 north, sin 30 / sin 60 = .577 of the ground lies south of 30."""
    write_raster(tmp_path / "tall.tif", counting(60, 10), west=0.0, north=60.0)
    layers = open_layers([RasterConfig(file="tall.tif")], tmp_path)
    _, lat = draw_places(layers, 4000, np.random.default_rng(1))
    assert np.mean(lat < 30) == pytest.approx(0.5 / np.sqrt(0.75), abs=0.025)


def test_a_projected_raster_gives_degrees(tmp_path: Path) -> None:
    write_raster(tmp_path / "flat.tif", counting(10, 10), west=CENTRE[0], north=CENTRE[1], cell=1000.0, crs=LAEA)
    layers = open_layers([RasterConfig(file="flat.tif")], tmp_path)
    lon, lat = draw_places(layers, 50, np.random.default_rng(2))
    assert ((lon > 9.99) & (lon < 10.16)).all() and ((lat > 51.9) & (lat < 52.01)).all()


def test_layers_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "west.tif", counting(5, 5), west=0.0)
    write_raster(tmp_path / "east.tif", counting(5, 5), west=50.0)
    layers = open_layers([RasterConfig(file=("west.tif", "east.tif"))], tmp_path)
    with pytest.raises(RasterError, match="0 of .* random places have a value in all of"):
        draw_places(layers, 10, np.random.default_rng(0))
