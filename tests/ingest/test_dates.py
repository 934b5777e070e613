"""Every way of writing a date that was met in the field, with what it says, and why the others say nothing."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from releve.ingest import dates
from releve.ingest.dates import date_parts, read_dates
from releve.ingest.release import open_release
from releve.ingest.surveys import read_occurrences, read_surveys
from releve.prepare.clean import clean_records
from releve.prepare.config import CleanConfig, PseudoplotConfig
from releve.prepare.records import prepare_records

from .fakes import SHARED, write_text

CASES = SHARED.parent / "cases" / "02-event-dates"
WRITTEN: list[tuple[str | None, tuple[int | None, int | None, int | None], str | None]] = [
    ("2019", (2019, None, None), None),
    ("2019.0", (2019, None, None), None),
    ("2019-05", (2019, 5, None), None),
    ("2019/5", (2019, 5, None), None),
    ("05.2019", (2019, 5, None), None),
    ("2019-05-03", (2019, 5, 3), None),
    ("2019-5-3", (2019, 5, 3), None),
    ("2019/05/03", (2019, 5, 3), None),
    ("20190503", (2019, 5, 3), None),
    ("20190503T101500Z", (2019, 5, 3), None),
    ("2019-05-03Z", (2019, 5, 3), None),
    ("2019-05-03T23:30:00.123+02:00", (2019, 5, 3), None),  # the day of the place, not that of Greenwich
    ("2019-05-03 23:30", (2019, 5, 3), None),
    ("2019-05-03 10:11:12+02", (2019, 5, 3), None),  # as PostgreSQL writes it
    ("2019-05-03 10:11:12.5-03", (2019, 5, 3), None),
    ("24.2.2020 10:11+02", (2020, 2, 24), None),
    (" 2019-05-03 ", (2019, 5, 3), None),
    ("2019-05-00", (2019, 5, None), None),
    ("2019-00-00", (2019, None, None), None),
    ("13/08/2023", (2023, 8, 13), None),
    ("08/13/2023", (2023, 8, 13), None),
    ("13-08-2023", (2023, 8, 13), None),
    ("5/5/2023", (2023, 5, 5), None),
    ("03.05.2019", (2019, 5, 3), None),  # with dots the day is always first
    ("24/2/2020 10:11:12", (2020, 2, 24), None),
    ("8/13/2023 4:05 PM", (2023, 8, 13), None),
    ("05/06/2019", (2019, None, None), dates.AMBIGUOUS),
    ("05-06-2019", (2019, None, None), dates.AMBIGUOUS),
    ("2023-08-13T00:00Z/2023-08-16T00:00Z", (2023, 8, None), None),
    ("2019-05-01/2019-06-30", (2019, None, None), None),
    ("2019-05-01/31", (2019, 5, None), None),
    ("2019-05-01/06-30", (2019, None, None), None),
    ("2019-05-03/2019-05-03", (2019, 5, 3), None),
    ("2019-05-03/2019-02-30", (2019, None, None), dates.NO_SUCH_DAY),
    ("2019-05-01 / 2019-06-30", (2019, None, None), None),
    ("2019-05-01 /2019-05-30", (2019, 5, None), None),
    ("2019-05 / 2019-06", (2019, None, None), None),
    ("2007-11-13T09:00:00Z/15:30:00Z", (2007, 11, 13), None),  # the second end is a time of the same day
    ("2007-11-13T09:00/15:30", (2007, 11, 13), None),
    ("2007-11-13 09:00:00+01:00 / 15:30:00+01:00", (2007, 11, 13), None),
    ("2019-05-03T10/31", (2019, 5, None), None),  # a day: a time has minutes
    ("2007-11-13/15:30", (None, None, None), dates.NOT_A_DATE),  # no time from which on
    ("2018-12-30/2019-01-02", (None, None, None), dates.SEVERAL_YEARS),
    ("1950/1993", (None, None, None), dates.SEVERAL_YEARS),
    ("2018/19", (None, None, None), dates.SEVERAL_YEARS),  # a season
    ("2018/12", (2018, 12, None), None),
    ("1950-1993", (None, None, None), dates.SEVERAL_YEARS),
    ("1950-1950", (1950, None, None), None),
    ("1587859200", (2020, 4, 26), None),  # seconds since 1970
    ("1587859200.0", (2020, 4, 26), None),
    ("1587859200000", (2020, 4, 26), None),
    ("999999999", (2001, 9, 9), None),
    ("2019-13-01", (2019, None, None), dates.NO_SUCH_DAY),
    ("2019-02-31", (2019, None, None), dates.NO_SUCH_DAY),
    ("2019-02-29", (2019, None, None), dates.NO_SUCH_DAY),
    ("2020-02-29", (2020, 2, 29), None),
    ("20191301", (2019, None, None), dates.NO_SUCH_DAY),
    ("32/13/2019", (2019, None, None), dates.NO_SUCH_DAY),
    ("0000-00-00", (None, None, None), dates.NO_SUCH_YEAR),
    ("1492-10-12", (None, None, None), dates.NO_SUCH_YEAR),
    ("45151", (None, None, None), dates.BARE_NUMBER),
    ("45151.25", (None, None, None), dates.BARE_NUMBER),
    ("20199", (None, None, None), dates.BARE_NUMBER),
    ("201905", (None, None, None), dates.BARE_NUMBER),  # May 2019, or 20 19 05
    ("-86400", (None, None, None), dates.BARE_NUMBER),
    ("99999999999999999999", (None, None, None), dates.BARE_NUMBER),
    ("13/08/23", (None, None, None), dates.NOT_A_DATE),
    ("last summer", (None, None, None), dates.NOT_A_DATE),
    ("", (None, None, None), None),
    ("NA", (None, None, None), None),
    (None, (None, None, None), None),
]


@pytest.mark.parametrize(("text", "parts", "fault"), WRITTEN)
def test_a_date_says_what_it_says_and_no_more(
    text: str | None, parts: tuple[int | None, ...], fault: str | None
) -> None:
    read = read_dates(pl.Series([text], dtype=pl.String))
    assert read.select("year", "month", "day").row(0) == parts
    assert read["fault"].to_list() == [fault]


def test_each_date_is_read_alone_and_stays_in_its_row() -> None:
    texts = [text for text, _, _ in WRITTEN] * 3
    read = read_dates(pl.Series(texts))
    assert read.select("year", "month", "day").rows() == [parts for _, parts, _ in WRITTEN] * 3
    assert read["fault"].to_list() == [fault for _, _, fault in WRITTEN] * 3


def test_columns_of_dates_times_and_numbers_are_read() -> None:
    day, nothing = (2019, 5, 3, None), (None, None, None, None)
    assert read_dates(pl.Series([date(2019, 5, 3), None])).rows() == [day, nothing]
    assert read_dates(pl.Series([datetime(2019, 5, 3, 23, 59), None])).rows() == [day, nothing]
    assert read_dates(pl.Series([2019, 20190503, 20199])).rows() == [
        (2019, None, None, None), day, (None, None, None, dates.BARE_NUMBER),
    ]  # fmt: skip
    assert read_dates(pl.Series([2019.0, float("nan"), None])).rows() == [(2019, None, None, None), nothing, nothing]
    assert read_dates(pl.Series([None, None])).rows() == [nothing, nothing]
    assert read_dates(pl.Series([], dtype=pl.String)).rows() == []


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%Y/%m/%d", "%Y-%m-%dT01Z", "%Y-%m-%d/%Y-%m-%d"])
def test_every_day_of_six_centuries_is_read_back(form: str) -> None:
    days = pl.date_range(date(1600, 1, 1), date(2199, 12, 31), eager=True)
    read = read_dates(days.dt.strftime(form))
    assert read["fault"].null_count() == len(days) == 219_146  # 600 years, 146 of them leap years
    assert read.select(pl.date("year", "month", "day")).to_series().equals(days)


@pytest.mark.parametrize(
    ("row", "parts", "fault"),
    [
        ({"year": "2019", "month": "5", "day": "3"}, (2019, 5, 3), None),
        ({"year": "2019", "month": "13", "day": "3"}, (2019, None, None), dates.NO_SUCH_DAY),
        ({"year": "2019", "month": "2", "day": "31"}, (2019, None, None), dates.NO_SUCH_DAY),
        ({"year": "2019", "month": "May", "day": "3"}, (2019, None, None), dates.NO_SUCH_DAY),
        ({"year": "2019", "month": "0", "day": "0"}, (2019, None, None), None),
        ({"year": "20199", "month": "5", "day": "3"}, (None, 5, 3), dates.BARE_NUMBER),
        ({"year": "2019-05-03"}, (2019, 5, 3), None),
        ({"year": None, "date": "2019-05-03"}, (2019, 5, 3), None),
        ({"year": "2019", "date": "2019-05-03"}, (2019, 5, 3), None),
        ({"year": "2019", "month": "6", "date": "2019"}, (2019, 6, None), None),
        ({"year": "2019", "date": "2018-05-03"}, (2019, None, None), dates.DISAGREE),
        ({"year": "2019", "month": "5", "day": "3", "date": "2018-05-03"}, (2019, 5, 3), dates.DISAGREE),
        ({"month": "5", "date": "2019-06-30"}, (2019, 5, None), dates.DISAGREE),
        ({"month": "2", "date": "2019-01-31"}, (2019, 2, None), dates.DISAGREE),
        ({"year": "2019", "month": "5", "date": "2019-06-30"}, (2019, 5, None), dates.DISAGREE),
        ({"year": "2019-05", "date": "2019-06-30"}, (2019, 5, None), dates.DISAGREE),
        ({"year": "2019", "month": "5", "day": "3", "date": "2019-05-04"}, (2019, 5, 3), dates.DISAGREE),
        ({"month": "5", "day": "3", "date": "2019-06-30"}, (2019, 5, 3), dates.DISAGREE),
        ({"day": "3", "date": "2019-06-30"}, (2019, None, None), dates.DISAGREE),
        ({"year": "2019-05-03", "month": "6"}, (2019, 6, None), dates.DISAGREE),
        ({"year": "2019", "month": "5", "date": "2019-05-30"}, (2019, 5, 30), None),
        ({"year": "2019", "month": "5", "day": "3", "date": "2019-05"}, (2019, 5, 3), None),
        ({"year": "2019", "month": "13", "date": "2019-05-03"}, (2019, None, None), dates.NO_SUCH_DAY),
        ({"year": "2019", "date": "05/06/2019"}, (2019, None, None), dates.AMBIGUOUS),
        ({"year": "2019", "month": "6", "day": "5", "date": "05/06/2019"}, (2019, 6, 5), None),  # said otherwise
    ],
)
def test_year_month_and_day_come_first_and_the_date_tells_the_rest(
    row: dict[str, str | None], parts: tuple[int | None, ...], fault: str | None
) -> None:
    read = date_parts(pl.DataFrame([row], schema=dict.fromkeys(row, pl.String))).row(0, named=True)
    assert (read["year"], read["month"], read["day"]) == parts and read["fault"] == fault
    assert read["date"] == (date(*parts) if None not in parts else None)


def records(root: Path, rows: list[str], header: str = "surveyId,lon,lat,speciesId,date") -> Path:
    write_text(root / "GLC24_PO_metadata_train.csv", "\n".join([header, *rows]) + "\n")
    return root


def test_records_without_a_whole_date_are_no_day_of_1970_and_faults_are_counted(tmp_path: Path) -> None:
    texts = ["2019", "20190503", "05/06/2019", "2019-02-31", "45151", "2019-05-01/2019-06-30"]
    rows = [f"{i},2.{i}1234,48.91234,7,{text}" for i, text in enumerate(texts)]
    read = read_occurrences(open_release(records(tmp_path, rows)), "po")
    assert read.table["year"].to_list() == [2019, 2019, 2019, 2019, None, 2019]
    assert read.table["date"].to_list() == [None, date(2019, 5, 3), None, None, None, None]
    assert read.noted == {dates.AMBIGUOUS: 1, dates.NO_SUCH_DAY: 1, dates.BARE_NUMBER: 1}
    assert read.examples[dates.AMBIGUOUS] == ("row 3",) and read.dropped == {}


def test_plots_of_a_year_that_cannot_be_have_none_and_are_counted(tmp_path: Path) -> None:
    header = "lon,lat,year,speciesId,surveyId"
    rows = ["2.1,48.1,2019,7,1", "2.2,48.2,20199,7,2", "2.3,48.3,2019-06-15,7,3"]
    write_text(tmp_path / "GLC24_PA_metadata_train.csv", "\n".join([header, *rows]) + "\n")
    read = read_surveys(open_release(tmp_path), "train")
    assert read.table["year"].to_list() == [2019, None, 2019]
    assert read.table["month"].to_list() == [None, None, 6]
    assert read.noted == {dates.BARE_NUMBER: 1}


@pytest.mark.parametrize("header", ["surveyId,lon,lat,speciesId,year,month,day", "surveyId,lon,lat,speciesId,date"])
def test_records_of_a_day_or_year_that_cannot_be_are_dropped_as_bad_dates(header: str, tmp_path: Path) -> None:
    """What reading takes off an impossible date does not make a good record of it."""
    days = ["3019-05-03", "0019-05-03", "2019-13-01", "2019-02-30", "2019-00-00", "2019-05-03"]
    if "year" in header:
        days = [day.replace("-", ",") for day in days]
    table = read_occurrences(
        open_release(records(tmp_path, [f"{i},2.{i}1234,48.91234,{i},{day}" for i, day in enumerate(days)], header)),
        "po",
    ).table
    cleaned = clean_records(table, CleanConfig())
    assert cleaned.table["survey_id"].to_list() == ["4", "5"] and cleaned.dropped_by_reason == {"bad_date": 4}


@pytest.mark.parametrize("header", ["surveyId,lon,lat,speciesId,year,month,day", "surveyId,lon,lat,speciesId,date"])
def test_records_of_one_place_and_several_years_are_no_duplicates(header: str, tmp_path: Path) -> None:
    empty = "," * (header.count(",") - 4)
    rows = [f"{year},2.35123,48.91234,7,{year}{empty}" for year in (2001, 2004, 2010, 2010)]
    table = read_occurrences(open_release(records(tmp_path, rows, header)), "po").table
    assert clean_records(table, CleanConfig()).table["year"].to_list() == [2001, 2004, 2010]


def test_the_last_year_is_that_of_the_release_or_of_the_recipe(tmp_path: Path) -> None:
    """What is kept depends on the records and the recipe, never on the day on which they are read."""
    rows = [f"{year},2.35123,48.91234,7,{year}-05-03" for year in (2023, 2024, 2025, 2040)]
    release = open_release(records(tmp_path, rows))
    kept = {}
    for last_year in (None, 2025):
        made = prepare_records(release, "po", CleanConfig(last_year=last_year), PseudoplotConfig(years=1))
        kept[last_year] = sorted(made.table["year"].to_list()), made.dropped
    assert kept == {None: ([2023, 2024], {"bad_date": 2}), 2025: ([2023, 2024, 2025], {"bad_date": 1})}


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_dates_are_read_as_a_botanist_reads_them() -> None:
    read = read_occurrences(open_release(CASES / "date-only"), "po")
    parts = dict(
        zip(read.table["survey_id"].cast(pl.Int64), read.table.select("year", "month", "day").rows(), strict=True)
    )
    assert parts == {
        100: (2023, 8, None), 101: (2018, None, None), 102: (1923, 6, None), 103: (2019, 8, 25), 104: (1930, 1, None),
        105: (2004, None, None), 106: (None, None, None), 107: (1980, None, None), 108: (2007, 11, None),
        109: (2023, 8, 13), 110: (2023, 8, 13), 111: (2023, 8, 13), 112: (2023, 8, 13), 113: (2023, 8, 13),
        114: (None, None, None), 115: (2023, 8, 13), 116: (2023, 8, 13), 117: (2023, 8, 3), 118: (2016, 6, 15),
        119: (None, None, None), 120: (1850, None, None),
    }  # fmt: skip
    assert read.noted == {dates.NO_SUCH_YEAR: 1, dates.SEVERAL_YEARS: 1, dates.BARE_NUMBER: 1}


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_records_of_five_years_stay_five() -> None:
    table = read_occurrences(open_release(CASES / "year-only-same-place"), "po").table
    assert clean_records(table, CleanConfig()).table["year"].to_list() == [2001, 2004, 2010, 2015, 2019]
