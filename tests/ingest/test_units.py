"""Columns in other units. Training's range is 4,000 to 12,000 (mm x 10), or 2,650 to 2,950 (K x 10)."""

from __future__ import annotations

import numpy as np
import pytest

from releve.ingest.units import find_elsewhere

RAIN = np.linspace(4000, 12000, 101).tolist()
WARMTH = np.linspace(2650, 2950, 101).tolist()


@pytest.mark.parametrize(
    ("values", "quantiles", "conversion"),
    [
        ([546.0, 733.1, 1081.3], RAIN, "times 10"),
        ([54.6, 73.3, 108.1], RAIN, "times 100"),
        ([54600.0, 73310.0], RAIN, "divided by 10"),
        ([2.5, 8.0, 14.9], WARMTH, "plus 273.15 and times 10, as from °C to K x 10"),
        ([25.0, 80.0, 149.0], WARMTH, "plus 2,731.5, as from °C x 10 to K x 10"),
        ([275.6, 281.1, 288.0], WARMTH, "times 10"),
        ([1000.0, 5000.0], np.linspace(100, 2000, 101).tolist(), None),  # partly inside
        ([50_000.0, 700_000.0], RAIN, "none"),
        ([np.nan, np.nan], RAIN, None),
        ([0.0] * 5, [0.0] * 101, None),
    ],
)
def test_the_likeliest_conversion_is_found(values: list[float], quantiles: list[float], conversion: str | None) -> None:
    found = find_elsewhere(values, quantiles)
    if conversion is None:
        assert found is None
    else:
        assert found is not None and (found.conversion or "none") == conversion


def test_a_column_of_which_a_part_lies_inside_is_not_elsewhere() -> None:
    inside, outside = [5000.0], [500.0] * 8
    assert find_elsewhere(inside + outside, RAIN) is None  # one of nine is more than a tenth
    assert find_elsewhere(inside + outside * 2, RAIN) is not None
