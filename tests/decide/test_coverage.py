"""The table by hand, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest

from releve.decide.coverage import coverage_table
from releve.errors import TableError
from releve.lists import Lists


def test_coverage_false_lists_and_lengths_of_each_group_by_hand():
    """Surveys 0 and 1 in A; 2, without a species, and 3, with one that the model does not know (9), in B."""
    lists = Lists.from_rows([[0, 1, 2, 3], [1], [4], []])
    truth = Lists.from_rows([[0, 1], [1, 2, 3, 4], [], [9]])
    groups = {"country": np.array(["A", "A", "B", "B"]), "fold": np.array([1, 0, 0, 0])}
    table = coverage_table(lists, truth, groups)
    assert table.select("grouping", "group", "num_surveys").rows() == [
        ("all", "all", 4),
        ("country", "A", 2),
        ("country", "B", 2),
        ("fold", "0", 3),
        ("fold", "1", 1),
    ]
    # coverage of the surveys: 1, 1/4, none, 0; false: 1/2, 0, 1, 0; length: 4, 1, 1, 0
    np.testing.assert_allclose(table["coverage"], [1.25 / 3, 1.25 / 2, 0, 0.25 / 2, 1])
    np.testing.assert_allclose(table["false_list_rate"], [1.5 / 4, 0.25, 0.5, 1 / 3, 0.5])
    np.testing.assert_allclose(table["mean_length"], [1.5, 2.5, 0.5, 2 / 3, 4])
    assert table.filter(group="1")["coverage_low"].to_list() == [None]


def test_a_group_without_an_observed_species_has_no_coverage():
    table = coverage_table(Lists.from_rows([[0], [0]]), Lists.from_rows([[], [0]]), {"half": np.array([0, 1])})
    assert table["coverage"].to_list() == [1.0, None, 1.0]


def test_intervals_hold_the_mean_and_are_wider_over_blocks():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(40), 25)
    good = rng.random(40)[blocks] > rng.random(1000)
    lists = Lists.from_rows([[0] if hit else [1] for hit in good])
    truth = Lists.from_rows([[0]] * 1000)
    widths = []
    for given in (None, blocks):
        row = coverage_table(lists, truth, {}, blocks_N=given).row(0, named=True)
        assert row["coverage"] == pytest.approx(good.mean())
        assert row["coverage_low"] < row["coverage"] < row["coverage_high"]
        assert row["false_list_rate"] == pytest.approx(1 - good.mean())
        widths.append(row["coverage_high"] - row["coverage_low"])
    assert 0.05 < widths[0] < 0.07  # 2 x 1.96 x sqrt(.25 / 1000)
    assert widths[1] > 2 * widths[0]


def test_numbers_of_surveys_that_differ_are_refused():
    one, two = Lists.from_rows([[0]]), Lists.from_rows([[0], [0]])
    none, short = Lists.from_rows([]), {"country": np.array(["A"])}
    for lists, truth, groups in ((one, two, {}), (two, two, short), (none, none, {})):
        with pytest.raises(TableError, match="as many of each"):
            coverage_table(lists, truth, groups)
    with pytest.raises(TableError, match="as many of each"):
        coverage_table(two, two, {}, blocks_N=np.array([1]))
