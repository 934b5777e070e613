from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from pyproj import Transformer

from releve.errors import TableError
from releve.ingest.rows import OCCURRENCE_SCHEMA, SURVEY_SCHEMA
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots import group as reasons
from releve.prepare.pseudoplots.diagnostics import describe, draw_diagnostics
from releve.prepare.pseudoplots.group import Pseudoplots, group_records

METRES_PER_DEGREE = 111_195.08  # of latitude, on the sphere of releve.geo
TO_DEGREES = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)


def table_of(**columns: Any) -> pl.DataFrame:
    """Return records with every column of a release; what is not given is null."""
    given = pl.DataFrame(columns)
    return given.select(
        (pl.col(name) if name in columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in OCCURRENCE_SCHEMA.items()
    )


def at_metres(x_m: list[float], y_m: list[float], **columns: Any) -> pl.DataFrame:
    """Return records at places of EPSG:3035, counted from the corner of a cell of 100 km near its centre."""
    lon, lat = TO_DEGREES.transform(4_300_000 + np.array(x_m), 3_200_000 + np.array(y_m))
    defaults = {"survey_id": range(1, len(x_m) + 1), "species_id": [0] * len(x_m)}
    return table_of(lon=lon, lat=lat, **(defaults | columns))


def plots_of(found: Pseudoplots) -> list[list[int]]:
    """Return the records of each pseudo-plot."""
    return [group["record"].to_list() for _, group in found.members.group_by("plot", maintain_order=True)]


def group(records: pl.DataFrame, **config: Any) -> Pseudoplots:
    found = group_records(records, PseudoplotConfig(**config))
    assert len(found.members) + sum(found.dropped.values()) == len(records)
    return found


def test_single_leaves_every_record_a_row_of_its_own() -> None:
    records = at_metres([0, 0, 5000], [0, 0, 0], survey_id=[9, 9, 4], species_id=[3, 2, 1])
    found = group(records, method="single")
    assert found.table["survey_id"].to_list() == ["4", "9", "9"] and found.table["plot_id"].to_list() == [0, 1, 2]
    assert found.table["num_species"].to_list() == [1, 1, 1] and found.table["trust"].to_list() == [0, 0, 0]
    assert found.labels.filter(pl.col("plot") == 0).rows() == [(0, 1)]
    assert sorted(found.labels["species_id"]) == [1, 2, 3]


def test_survey_keeps_the_sets_that_were_published() -> None:
    records = at_metres([0, 0, 0, 50], [0, 0, 0, 0], survey_id=[9, 9, 9, 4], species_id=[3, 2, 3, 3])
    found = group(records, method="survey")
    assert plots_of(found) == [[3], [0, 1, 2]]
    assert found.labels.rows() == [(0, 3), (1, 2), (1, 3)]
    assert found.table.select("survey_id", "num_records", "num_species", "num_dates").rows() == [
        ("4", 1, 1, 1),
        ("9", 3, 2, 1),
    ]


def test_grid_cells_are_those_of_the_european_reference_grid() -> None:
    records = at_metres([10, 990, 1010, 990], [10, 990, 500, 1010])
    assert plots_of(group(records, method="grid", size_m=1000)) == [[0, 1], [2], [3]]
    assert plots_of(group(records, method="grid", size_m=2000)) == [[0, 1, 2, 3]]


def test_the_representative_lies_nearest_to_the_mean_and_lends_its_place_and_date() -> None:
    records = at_metres(
        [0.1, 100, 900], [500, 500, 500], survey_id=[1, 5, 2], species_id=[7, 7, 8], year=[2019, 2020, 2021],
        month=[5, 6, 7], day=[1, 2, 3], country=["A", "B", "C"], series_id=[10, 50, 20], patch_id=[11, 51, 21],
        uncertainty_m=[1.0, None, 11.0], area_m2=[25.0, 25.0, 25.0],
    )  # fmt: skip
    row = group(records).table.row(0, named=True)
    assert {name: row[name] for name in ("survey_id", "year", "month", "day", "country", "series_id", "patch_id")} == {
        "survey_id": "5", "year": 2020, "month": 6, "day": 2, "country": "B", "series_id": "50", "patch_id": "51",
    }  # fmt: skip
    assert (row["lon"], row["lat"]) == records.select("lon", "lat").row(1)
    assert row["area_m2"] is None and row["uncertainty_m"] == 6.0
    # mean at 333.3 m: distances 333.3, 233.3 and 566.7 m
    assert row["spread_m"] == pytest.approx(402.8, rel=0.005)


def test_of_two_records_as_near_to_their_mean_the_smaller_survey_id_stands_for_both() -> None:
    for ids in ([8, 3], [3, 8]):
        assert group(at_metres([100, 700], [500, 200], survey_id=ids)).table["survey_id"].to_list() == ["3"]


def test_the_table_has_the_columns_of_surveys_first() -> None:
    found = group(at_metres([0], [0]))
    assert found.table.schema.names()[: len(SURVEY_SCHEMA)] == SURVEY_SCHEMA.names()
    assert dict(found.table.schema).items() >= dict(SURVEY_SCHEMA).items()


def test_radius_does_not_chain_as_density_clusters_do() -> None:
    lat = 50 + np.arange(7) * 600 / METRES_PER_DEGREE  # each within 1000 m of the next
    found = group(table_of(lon=[10.0] * 7, lat=lat, survey_id=range(7), species_id=[1] * 7), method="radius")
    ends = [(min(records), max(records)) for records in plots_of(found)]
    assert len(ends) > 1 and all((last - first) * 600 <= 2000 for first, last in ends)


def test_radius_takes_the_densest_place_as_a_centre() -> None:
    lat = 50 + np.array([-900, 0, 0, 0, 0, 900]) / METRES_PER_DEGREE
    records = table_of(lon=[10.0] * 6, lat=lat, survey_id=range(6), species_id=[1] * 6)
    assert plots_of(group(records, method="radius", size_m=1000)) == [[0, 1, 2, 3, 4, 5]]
    assert len(plots_of(group(records, method="radius", size_m=890))) == 3


def test_time_windows_are_never_grouped() -> None:
    records = at_metres([0] * 5, [0] * 5, year=[2014, 2015, 2019, 2020, None])
    assert plots_of(group(records, years=5)) == [[0], [1, 2], [3]]
    assert group(records, years=5).dropped == {reasons.NO_YEAR: 1}
    assert plots_of(group(records)) == [[0, 1, 2, 3, 4]]


def test_places_too_uncertain_for_their_cell_are_dropped() -> None:
    records = at_metres([0] * 4, [0] * 4, uncertainty_m=[None, 500.0, 501.0, float("nan")])
    assert plots_of(group(records)) == [[0, 1, 3]] and group(records).dropped == {reasons.TOO_UNCERTAIN: 1}
    assert plots_of(group(records, default_uncertainty_m=600)) == [[1]]
    assert plots_of(group(records, uncertainty="ignore")) == [[0, 1, 2, 3]]
    assert plots_of(group(records, size_m=199)) == []  # the default of 100 m exceeds half a cell


def test_the_publisher_is_the_most_frequent_then_the_first_by_alphabet() -> None:
    publisher = ["z", "z", "a", None, "b", "a", None]
    records = at_metres([0, 0, 0, 0, 5000, 5000, 9000], [0] * 7, publisher=publisher)
    assert group(records).table.select("publisher", "num_publishers").rows() == [("z", 2), ("a", 2), (None, 0)]


def test_poor_groups_are_dropped_and_their_records_counted() -> None:
    records = at_metres([0, 0, 0, 5000, 5000, 9000], [0] * 6, species_id=[1, 2, 3, 1, 1, 1])
    assert group(records, min_species=2).dropped == {"pseudo-plot with too few species": 3}
    rich = group(records, min_species=2)
    assert rich.labels.rows() == [(0, 1), (0, 2), (0, 3)] and rich.table["plot_id"].to_list() == [0]
    assert rich.members.rows() == [(0, 0), (0, 1), (0, 2)]


def test_completeness_is_worked_out_by_hand() -> None:
    # four days: {a b c} {a b} {a d} {a}; of 8 detections c and d were met once, b twice, a four times
    species, day = [0, 1, 2, 0, 1, 0, 3, 0], [1, 1, 1, 2, 2, 3, 3, 4]
    records = at_metres([0] * 8, [0] * 8, species_id=species, day=day, month=[6] * 8, year=[2020] * 8)
    row = group(records).table.row(0, named=True)
    assert (row["num_dates"], row["num_species"]) == (4, 4)
    assert row["coverage"] == pytest.approx(1 - 2 / 8 * (3 * 2) / (3 * 2 + 2 * 1))  # .8125
    assert row["chao2"] == pytest.approx(4 + 3 / 4 * 2 * 1 / (2 * 2))  # 4.375
    assert row["completeness"] == pytest.approx(4 / 4.375)
    assert row["trust"] == pytest.approx(0.8125 * 3 / 4)


def test_a_species_met_twice_on_one_day_was_met_on_one_visit() -> None:
    dates = {"year": [2020] * 3, "month": [6] * 3}
    records = at_metres([0] * 3, [0] * 3, species_id=[1, 1, 1], day=[1, 1, 2], **dates)
    assert group(records).table.select("num_dates", "coverage").rows() == [(2, 1.0)]


def test_records_without_a_full_date_are_visits_by_their_survey_id() -> None:
    records = at_metres([0] * 5, [0] * 5, survey_id=[1, 1, 2, 3, 4], year=[2020, 2020, 2020, 2020, None],
                        month=[6, 6, None, 6, 6], day=[None, None, 1, 1, 1])  # fmt: skip
    assert group(records).table["num_dates"].to_list() == [4]


def test_one_visit_gives_no_estimate_and_no_trust() -> None:
    row = group(at_metres([0], [0])).table.row(0, named=True)
    assert (row["coverage"], row["chao2"], row["completeness"], row["trust"]) == (None, None, None, 0.0)


@pytest.mark.parametrize("method", ["single", "survey", "grid", "radius"])
def test_no_records_give_no_pseudoplots(method: Any) -> None:
    found = group(at_metres([], []), method=method)
    assert found.table.schema == group(at_metres([0], [0])).table.schema
    assert [len(part) for part in (found.table, found.members, found.labels)] == [0, 0, 0]


def test_only_ids_places_and_species_are_needed() -> None:
    full = at_metres([0, 10], [0, 10], species_id=[5, 6])
    bare = full.select("survey_id", "lon", "lat", "species_id")
    assert_frame_equal(group(bare).table, group(full).table)
    with pytest.raises(TableError, match=r"lacks columns \['lat'\]"):
        group(bare.drop("lat"))


def test_records_without_place_or_ids_are_counted() -> None:
    records = table_of(lon=[10.0, None, 200.0, 10.0, 10.0], lat=[50.0, 50.0, 50.0, float("nan"), 50.0],
                       survey_id=[1, 2, 3, 4, None], species_id=[1] * 5)  # fmt: skip
    assert group(records).dropped == {reasons.NO_KEY: 1, reasons.NO_PLACE: 3}


def test_a_pseudo_plot_reaches_as_far_as_its_farthest_record() -> None:
    """Of three records on a line that at 300 m is nearest to their mean (333 m); the farthest lies 400 m from it."""
    found = group(at_metres([10, 310, 710], [10, 10, 10]), size_m=5000)
    assert len(found.table) == 1 and found.table["reach_m"][0] == pytest.approx(400, abs=2)  # on the sphere
    assert group(at_metres([0, 300], [0, 0]), method="single").table["reach_m"].to_list() == [0, 0]


@pytest.mark.parametrize("method", ["grid", "radius"])
@pytest.mark.parametrize("elsewhere", [[], [[60.0, 30.0], [0.0, 0.0], [-100.0, 40.0]]])
def test_the_antimeridian_is_no_border(method: Any, elsewhere: list[list[float]]) -> None:
    places = np.array([[179.999, -17.0], [-179.999, -17.0], [180.0, -17.0], [-180.0, -17.0], *elsewhere])
    records = table_of(lon=places[:, 0], lat=places[:, 1], survey_id=range(len(places)), species_id=[1] * len(places))
    found = group(records, method=method, size_m=2000)
    assert plots_of(found) == [[0, 1, 2, 3], *([i] for i in range(4, len(places)))]
    assert found.table["spread_m"][0] == pytest.approx(75, abs=2)  # two at 106 m from the mean, two in it


@pytest.mark.parametrize("elsewhere", [[], [[60.0, 30.0], [0.0, -80.0]]])
def test_at_a_pole_all_longitudes_are_one_place(elsewhere: list[list[float]]) -> None:
    places = np.array([[0.0, 90.0], [120.0, 90.0], [-90.0, 89.9999], [77.0, 89.9999], *elsewhere])
    records = table_of(lon=places[:, 0], lat=places[:, 1], survey_id=range(len(places)), species_id=[1] * len(places))
    assert plots_of(group(records, method="radius", size_m=1000))[0] == [0, 1, 2, 3]
    assert {0, 1} <= set(plots_of(group(records, method="grid", size_m=1000))[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_m": -5}, r"size_m is -5; expected metres from 1 to 1,000,000"),
        ({"size_m": 1e9}, r"size_m is 1e\+09; expected metres from 1"),
        ({"size_m": float("nan")}, "size_m is nan"),
        ({"years": 0}, "greater than or equal to 1"),
        ({"method": "hexagon"}, "'single', 'survey', 'grid' or 'radius'"),
        ({"radius": 5}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_choices_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PseudoplotConfig(**values)


@pytest.mark.parametrize("place", [lambda rng: np.zeros(500), lambda rng: rng.permutation(500) * 5000.0])
def test_all_records_in_one_cell_and_one_record_in_each(place: Callable[[np.random.Generator], np.ndarray]) -> None:
    x_m = place(np.random.default_rng(0))
    records = at_metres(x_m.tolist(), [0.0] * 500, species_id=np.arange(500) % 50)
    for method in ("grid", "radius"):
        found = group(records, method=method)
        assert len(found.table) == len(set(x_m.tolist()))
        assert found.table["num_records"].sum() == 500


def test_the_description_says_what_grouping_did(tmp_path: Path) -> None:
    records = at_metres([100, 110, 120, 9000], [100] * 4, survey_id=[1, 1, 2, 3], species_id=[5, 6, 7, 5],
                        uncertainty_m=[None, None, None, 5.0])  # fmt: skip
    found = group(records)
    numbers = describe(found, records)
    assert (numbers["num_records"], numbers["num_grouped"], numbers["num_pseudoplots"], numbers["num_species"]) == (
        4, 4, 2, 3,
    )  # fmt: skip
    assert numbers["single_species_before"] == pytest.approx(2 / 3) and numbers["single_species_after"] == 0.5
    assert (
        numbers["species_per_pseudoplot"]["q50"] == 2 and numbers["without_trust"] == 1
    )  # two visits that share nothing
    for name, given in (("with.png", records), ("without.png", None)):
        draw_diagnostics(found, tmp_path / name, records=given)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    empty = group(records[:0])
    assert np.isnan(describe(empty, records[:0])["trust"]["q50"])
    draw_diagnostics(empty, tmp_path / "empty.png", records=records[:0])
