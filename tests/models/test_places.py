"""Coordinates as columns, and what is missing."""

from __future__ import annotations

import numpy as np
import torch

from recorded import look_at, make_places
from releve.models.places import EvenColumns, PlaceColumns


def test_coordinates_are_of_the_extent_and_stand_there_turned_as_well() -> None:
    store = make_places(400, 0)
    gatherer, statistics = look_at(store, ("location",))
    east_N, north_N, diagonal_N, other_N = PlaceColumns(statistics).of(gatherer.batch(np.arange(400))).T
    assert 0.97 < float(east_N.abs().max()) <= 1.001 and 0.97 < float(north_N.abs().max()) <= 1.001
    torch.testing.assert_close(diagonal_N, (east_N + north_N) / 2**0.5)
    torch.testing.assert_close(other_N, (east_N - north_N) / 2**0.5)
    assert np.corrcoef(east_N, store.lon)[0, 1] > 0.9999


def test_without_location_there_are_no_columns_of_it() -> None:
    store = make_places(30, 0)
    gatherer, statistics = look_at(store, ("covariates",))
    numbers, codes = EvenColumns(statistics).of(gatherer.batch(np.arange(30)))
    assert numbers.shape == (30, 1) and codes.shape == (30, 2)
