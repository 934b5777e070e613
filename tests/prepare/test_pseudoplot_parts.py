"""The parts of grouping: cells, clusters, estimates, hashes; and properties that hold for any records."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from releve.geo import EARTH_RADIUS_KM, unit_vectors
from releve.prepare.config import PseudoplotConfig
from releve.prepare.pseudoplots.completeness import estimate_coverage, estimate_richness, trust_in_silence
from releve.prepare.pseudoplots.group import group_records
from releve.prepare.pseudoplots.radius import _choose, cluster_places

METHODS = ("single", "survey", "grid", "radius")
EXAMPLES = settings(max_examples=40, deadline=None)


@st.composite
def record_tables(draw: Any) -> pl.DataFrame:
    """Return up to 30 records on a lattice of 250 m about a place, with many ties, doubles and nulls."""
    lon, lat = draw(st.sampled_from([(10.0, 52.0), (179.999, -17.0), (-70.0, -30.0), (33.0, 89.999), (0.0, 0.0)]))
    step = 250 / 111_195
    row = st.fixed_dictionaries(
        {
            "east": st.integers(-4, 4), "north": st.integers(-4, 4), "survey_id": st.integers(1, 8),
            "species_id": st.sampled_from([0, 1, 2, 10**9]), "year": st.sampled_from([None, 2019, 2020]),
            "month": st.just(6), "day": st.sampled_from([None, 1, 2, 3]),
            "publisher": st.sampled_from([None, "a", "b"]), "country": st.sampled_from([None, "x"]),
            "uncertainty_m": st.sampled_from([None, 0.0, 300.0, 800.0]),
        }
    )  # fmt: skip
    rows = draw(st.lists(row, min_size=1, max_size=30))
    kinds = {
        "publisher": pl.String,
        "country": pl.String,
        "uncertainty_m": pl.Float64,
        "year": pl.Int32,
        "day": pl.Int32,
    }
    wide = 1 / np.cos(np.radians(lat)) if abs(lat) < 89 else 1000.0
    table = pl.DataFrame(rows, schema_overrides=kinds).with_columns(
        lon=(lon + pl.col("east") * step * wide + 180) % 360 - 180, lat=(lat + pl.col("north") * step).clip(-90, 90)
    )
    far = draw(st.booleans())  # one record on the other side of the globe changes the projection
    return table if not far else table.with_columns(
        lon=pl.when(pl.int_range(pl.len()) == 0).then(-lon / 2 - 100).otherwise("lon"))  # fmt: skip


configs = st.builds(
    PseudoplotConfig,
    method=st.sampled_from(METHODS), size_m=st.sampled_from([20.0, 400.0, 1000.0, 250_000.0]),
    years=st.sampled_from([None, 1, 2]), uncertainty=st.sampled_from(["ignore", "drop"]),
    min_species=st.sampled_from([1, 2]),
)  # fmt: skip


@EXAMPLES
@given(record_tables(), configs, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(records: pl.DataFrame, config: PseudoplotConfig, random: Any) -> None:
    order = list(range(len(records)))
    random.shuffle(order)
    found, other = (group_records(table, config) for table in (records, records[order]))
    assert_frame_equal(found.table, other.table, check_exact=True)
    assert_frame_equal(found.labels, other.labels)
    assert found.dropped == other.dropped
    contents = [sorted(map(repr, zip(p["plot"], t[p["record"]].rows(), strict=True)))
                for p, t in ((found.members, records), (other.members, records[order]))]  # fmt: skip
    assert contents[0] == contents[1]


@EXAMPLES
@given(record_tables(), configs)
def test_a_record_elsewhere_changes_no_other_pseudoplot(records: pl.DataFrame, config: PseudoplotConfig) -> None:
    """Which record represents a group once depended, among like ones, on what other rows there were."""
    far = {"lon": -150.0, "lat": -60.0, "survey_id": 1_000_000, "publisher": "AAA", "species_id": 5}
    elsewhere = records[:1].with_columns(
        pl.lit(value).cast(records[name].dtype).alias(name) for name, value in far.items()
    )
    alone, among = group_records(records, config), group_records(pl.concat([records, elsewhere]), config)
    kept = among.table.filter(pl.col("survey_id") != "1000000")
    assert_frame_equal(alone.table.drop("plot_id"), kept.drop("plot_id"), check_exact=True)


@EXAMPLES
@given(record_tables(), configs)
def test_every_record_is_in_one_pseudoplot_or_counted(records: pl.DataFrame, config: PseudoplotConfig) -> None:
    found = group_records(records, config)
    assert len(found.members) + sum(found.dropped.values()) == len(records)
    assert found.members["record"].is_unique().all() and found.table["plot_id"].is_unique().all()
    assert set(found.members["plot"]) == set(range(len(found.table))) == set(found.labels["plot"])
    joined = found.members.join(records.with_row_index("record"), on="record")
    expected = joined.select("plot", "species_id").unique().sort("plot", "species_id")
    assert_frame_equal(expected, found.labels)
    assert found.table["num_records"].to_list() == joined.group_by("plot").len().sort("plot")["len"].to_list()
    for (plot,), members in joined.group_by("plot"):
        row = found.table.row(plot, named=True)
        assert row["survey_id"] in members["survey_id"].cast(pl.String) and row["lon"] in members["lon"]
        if config.years is not None:
            assert (members["year"] // config.years).n_unique() == 1
    trust = found.table["trust"].to_numpy()
    assert ((trust >= 0) & (trust < 1)).all() and (trust[(found.table["num_dates"] == 1).to_numpy()] == 0).all()


@EXAMPLES
@given(record_tables(), st.sampled_from([1.0, 300.0, 1000.0, 300_000.0]))
def test_no_place_is_farther_from_its_centre_than_the_radius_and_none_is_nearer_to_another(
    records: pl.DataFrame, radius_m: float
) -> None:
    lon, lat = records["lon"].to_numpy(), records["lat"].to_numpy()
    clusters, centres = cluster_places(lon, lat, radius_m)
    chords = np.linalg.norm(unit_vectors(lon, lat)[:, None] - centres[None], axis=2)
    distances_m = 2000 * EARTH_RADIUS_KM * np.arcsin(chords / 2)
    own = distances_m[np.arange(len(lon)), clusters]
    assert (own <= radius_m + 1e-6).all() and (own <= distances_m.min(axis=1) + 1e-6).all()
    assert set(clusters) == set(range(len(centres)))


def test_many_places_are_clustered_within_the_radius_and_independently_of_order() -> None:
    rng = np.random.default_rng(0)
    lon, lat = rng.normal(10, 0.1, 20_000).round(4), rng.normal(50, 0.1, 20_000).round(4)
    clusters, centres = cluster_places(lon, lat, 1500)
    chords = np.linalg.norm(unit_vectors(lon, lat) - centres[clusters], axis=1)
    assert chords.max() * EARTH_RADIUS_KM <= 1.5
    order = rng.permutation(len(lon))
    np.testing.assert_array_equal(cluster_places(lon[order], lat[order], 1500)[0], clusters[order])


def test_centres_are_those_of_a_greedy_choice_one_by_one() -> None:
    rng = np.random.default_rng(1)
    places, weights = rng.normal(0, 1, (400, 3)).round(1), rng.integers(1, 5, 400)
    places = np.unique(places, axis=0)
    weights = weights[: len(places)]
    chosen: list[int] = []
    for i in np.lexsort((*places.T, -weights)):
        if all(np.linalg.norm(places[i] - places[j]) > 0.4 for j in chosen):
            chosen.append(int(i))
    assert _choose(places, weights, 0.4).tolist() == sorted(chosen)


def test_coverage_is_the_chance_that_a_left_out_visit_meets_listed_species() -> None:
    """Without species met twice, coverage equals the hit rate of leaving out one visit after the other."""
    visits = [{1, 2}, {1, 3}, {1, 4}]
    hits = [
        species in set().union(*visits[:i], *visits[i + 1 :]) for i, visit in enumerate(visits) for species in visit
    ]
    assert estimate_coverage([3], [6], [3], [0])[0] == pytest.approx(np.mean(hits)) == 0.5


def test_coverage_and_richness_at_their_limits() -> None:
    # one visit; two that share nothing; three alike; none left to discover
    visits, incidences, species = [1, 2, 3, 9], [4, 4, 6, 20], [4, 4, 2, 5]
    once, twice = [4, 4, 0, 0], [0, 0, 0, 2]
    coverage = estimate_coverage(visits, incidences, once, twice)
    np.testing.assert_allclose(coverage, [np.nan, 0, 1, 1])
    np.testing.assert_allclose(estimate_richness(visits, species, once, twice), [np.nan, 7, 2, 5])
    np.testing.assert_allclose(trust_in_silence(coverage, visits), [0, 0, 2 / 3, 8 / 9])


def test_estimated_coverage_is_right_on_average_where_the_truth_is_known() -> None:
    rng = np.random.default_rng(0)
    detection = rng.beta(0.5, 4, (400, 60))  # 400 plots, 60 species, most of them hard to find
    for num_visits in (4, 12):
        times = rng.binomial(num_visits, detection)
        truth = (detection * (times > 0)).sum(axis=1) / detection.sum(axis=1)
        found = estimate_coverage(
            np.full(400, num_visits), times.sum(axis=1), (times == 1).sum(axis=1), (times == 2).sum(axis=1)
        )
        assert abs((found - truth).mean()) < 0.02
        assert np.corrcoef(found, truth)[0, 1] > 0.2


def test_huge_ids_are_grouped_as_small_ones_are() -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"survey_id": rng.permutation(300), "species_id": rng.integers(0, 20, 300),
                          "lon": rng.uniform(10, 10.05, 300), "lat": rng.uniform(50, 50.05, 300)})  # fmt: skip
    far = table.with_columns(pl.col("survey_id", "species_id") * 2**48)
    small, huge = (group_records(records, PseudoplotConfig()) for records in (table, far))
    assert small.members.equals(huge.members)
    assert small.table["coverage"].equals(huge.table["coverage"])
