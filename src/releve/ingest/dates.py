"""Dates as people write them: a year, a month, a day, an interval; what cannot be read says why."""

from __future__ import annotations

import polars as pl

from releve.ingest.text import MISSING_WORDS

FIRST_YEAR, LAST_YEAR = 1600, 2199
"""Years that a survey, or a place to predict, can be of."""

AMBIGUOUS = "date with day and month in doubt, year kept"
NO_SUCH_DAY = "no such month or day, year kept"
NO_SUCH_YEAR = f"no such year ({FIRST_YEAR} to {LAST_YEAR})"
SEVERAL_YEARS = "interval over several years"
DISAGREE = "date disagrees with year, month or day, which are kept"
BARE_NUMBER = "number that is no date, such as a spreadsheet's count of days"
NOT_A_DATE = "text that is no date"
FAULTS = (AMBIGUOUS, NO_SUCH_DAY, NO_SUCH_YEAR, SEVERAL_YEARS, DISAGREE, BARE_NUMBER, NOT_A_DATE)

_FAULT = pl.Enum(FAULTS)
_PARTS = ("year", "month", "day", "fault")
_TIME = r"(?:[T ]+\d{1,2}(?::?\d{2}(?::?\d{2}(?:[.,]\d+)?)?)? *(?:[AaPp][Mm])? *(?:[+-]\d{2}(?::?\d{2})?)?)?(?:Z|UTC)?$"
_ISO_DAY = rf"^\d{{4}}-\d{{2}}-\d{{2}}{_TIME}"
_COMPACT = r"^\d{8}T\d{4,6}Z?$"
_NUMBER = r"^-?\d+(?:[.,]\d+)?$"
_YEARS = r"^\d{4}[-/]\d{4}$"
_INTERVAL = r"^(\d{4}(?:-[^/]*?)?) */ *(\d[^/]*)$"
_THREE = rf"^(\d{{1,4}})([-/.])(\d{{1,4}})(?:[-/.](\d{{1,4}}))?{_TIME}"
_PER_SECOND = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
"""Digits of a time since 1970, which from 1973 to 2001 had one less: its units in a second."""


def read_dates(column: pl.Series) -> pl.DataFrame:
    """Return what a column says of the date: ``year, month, day`` (Int32, null where not known) and ``fault``.

    Read are years, months (``2019-05``), days (``2019-05-03``, ``20190503``, ``3.5.2019``; ``2019-05-00`` is a month),
    any of these with a time of day, whose zone is not applied as the day is that of the place, times since 1970 in
    seconds or finer, and columns of dates. Of an interval (``2019-05-01/2019-06-30``) the parts that both ends share
    are known. Day and month with ``/`` or ``-`` are read if only one order is possible; if both are, the year alone. A
    count of days, as spreadsheets keep it, is not read: some count from 1900, others from 1904.

    Parameters
    ----------
    column
        Text, numbers, dates or times.

    Returns
    -------
    polars.DataFrame
        A row for each of the column. ``fault`` is one of ``FAULTS``, or null where nothing is wrong or nothing is said.

    Examples
    --------
    >>> dates = read_dates(pl.Series(["2019", "20190503", "2019-05-01/2019-06-30", "13/08/2023", "05/06/2019"]))
    >>> dates.select("year", "month", "day").rows()
    [(2019, None, None), (2019, 5, 3), (2019, None, None), (2023, 8, 13), (2019, None, None)]
    >>> dates["fault"].drop_nulls().to_list()
    ['date with day and month in doubt, year kept']
    """
    column = (column.fill_nan(None) if column.dtype.is_float() else column).alias("value")
    if column.dtype in (pl.Date, pl.Datetime):
        parts = [pl.col("value").dt.year().alias("year"), pl.col("value").dt.month().alias("month")]
        return column.to_frame().select(*parts, pl.col("value").dt.day().alias("day")).select(*_checked())
    different = column.unique()
    read = pl.concat([different.to_frame(), _read_texts(as_text(different))], how="horizontal")
    found = column.to_frame().join(read, on="value", how="left", nulls_equal=True, maintain_order="left")
    return found.select(_PARTS)


def date_parts(table: pl.DataFrame) -> pl.DataFrame:
    """Return ``year, month, day`` (Int32), ``date`` and ``fault`` from the columns of these names, as far as there.

    The columns year, month and day come first; ``date`` tells what they leave open, a month or day only if it agrees
    with all of them. A date in the column year is read as one. A month or day of 0 is not known. ``fault`` tells what
    is wrong with the columns, and with ``date`` where it disagrees with them or the day is not known otherwise.

    Examples
    --------
    >>> table = pl.DataFrame({"year": ["2019", None], "month": ["13", None], "date": [None, "2020-05"]})
    >>> date_parts(table).rows()
    [(2019, None, None, None, 'no such month or day, year kept'), (2020, 5, None, None, None)]
    """
    nothing = pl.Series([None] * len(table), dtype=pl.String)
    told = {name: table[name] if name in table.columns else nothing for name in ("year", "month", "day", "date")}
    parts = pl.concat(
        [
            read_dates(told["year"]).rename(lambda name: f"own_{name}"),
            read_dates(told["date"]).rename(lambda name: f"date_{name}"),
            pl.DataFrame({name: _whole_numbers(told[name]) for name in ("month", "day")}),
        ],
        how="horizontal",
    )
    in_year = _agree(("month", "own_month"), ("day", "own_day"))
    parts = parts.with_columns(
        *(pl.coalesce(name, pl.when(in_year).then(f"own_{name}")).alias(name) for name in ("month", "day")),
        in_year=in_year,
    )
    in_date = _agree(("own_year", "date_year"), ("month", "date_month"), ("day", "date_day"))
    known = parts.select(
        pl.coalesce("own_year", "date_year").alias("year"),
        *(pl.coalesce(name, pl.when(in_date).then(f"date_{name}")).alias(name) for name in ("month", "day")),
        "own_fault",
        "date_fault",
        pl.when(~(in_date & pl.col("in_year"))).then(pl.lit(DISAGREE, _FAULT)).alias("apart"),
    )
    checked = pl.concat([known.select("own_fault", "date_fault", "apart"), known.select(*_checked())], how="horizontal")
    of_date = pl.when(pl.col("day").is_null()).then("date_fault")
    date = pl.when(pl.col("day").is_not_null() & pl.col("year").is_not_null()).then(pl.date("year", "month", "day"))
    return checked.select("year", "month", "day", date=date, fault=pl.coalesce("own_fault", "fault", "apart", of_date))


def _agree(*pairs: tuple[str, str]) -> pl.Expr:
    """Return where no two columns of a pair say different things."""
    return pl.all_horizontal((pl.col(a) == pl.col(b)).fill_null(True) for a, b in pairs)


def as_text(column: pl.Series) -> pl.Series:
    """Return a column as text without blanks around it: whole numbers without decimals, nothing as null.

    Examples
    --------
    >>> as_text(pl.Series([2019.0, None])).to_list(), as_text(pl.Series([" 0012", "NA", "7.00"])).to_list()
    (['2019', None], ['0012', None, '7'])
    """
    text = column.cast(pl.String).str.strip_chars().str.replace(r"^(-?\d+)\.0+$", "$1")
    return text.set(text.str.to_lowercase().is_in(MISSING_WORDS), None)


def _whole_numbers(column: pl.Series) -> pl.Series:
    """Return months or days as Int32: null where 0 or nothing stands, -1 where there is no whole number."""
    if column.dtype.is_integer():
        number = column.clip(-1, 99).cast(pl.Int32)
    else:
        text = as_text(column.fill_nan(None) if column.dtype.is_float() else column)
        number = text.cast(pl.Int64, strict=False).clip(-1, 99).cast(pl.Int32)
        number = number.set(number.is_null() & text.is_not_null(), -1)
    return number.set(number == 0, None)


def _checked() -> list[pl.Expr]:
    """Return year, month, day and fault from year, month and day (0 or null: not known), and their fault if any."""
    year, month, day = (pl.col(name).cast(pl.Int32) for name in ("year", "month", "day"))
    month, day = (pl.when(part != 0).then(part) for part in (month, day))
    leap = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).fill_null(True)
    num_days = (
        pl.when(month.is_in([4, 6, 9, 11])).then(30).when(month == 2).then(pl.when(leap).then(29).otherwise(28))
        .otherwise(31)
    )  # fmt: skip
    no_year = ~year.is_between(FIRST_YEAR, LAST_YEAR).fill_null(True)
    no_day = ~(month.is_between(1, 12).fill_null(True) & day.is_between(1, num_days).fill_null(True))
    fault = pl.when(no_year).then(pl.lit(NO_SUCH_YEAR)).when(no_day).then(pl.lit(NO_SUCH_DAY)).cast(_FAULT)
    good = ~no_year & ~no_day
    return [
        pl.when(~no_year).then(year).alias("year"),
        pl.when(good).then(month).alias("month"),
        pl.when(good & month.is_not_null()).then(day).alias("day"),
        fault.alias("fault"),
    ]


def _read_texts(text: pl.Series) -> pl.DataFrame:
    """Return the parts of each text."""
    interval = text.str.contains(_INTERVAL) & ~text.str.contains(r"^\d{4}(?:/\d{1,4}| */ *\d{1,2})$")
    rows = text.to_frame("text").with_row_index("row").with_columns(is_interval=interval.fill_null(False))
    intervals, others = rows.filter("is_interval"), rows.filter(~pl.col("is_interval"))
    read = [(intervals, _shared_parts(intervals["text"])), (others, _read_points(others["text"]))]
    whole = pl.concat([pl.concat([table.select("row"), parts], how="horizontal") for table, parts in read])
    return whole.sort("row").drop("row")


def _read_points(text: pl.Series) -> pl.DataFrame:
    """Return the parts of texts that are no intervals. Nearly all are ISO days; what else there is, is tried after."""
    rows = text.to_frame("text").with_row_index("row")
    iso = pl.when(pl.col("text").str.contains(_ISO_DAY)).then(pl.col("text").str.slice(0, 10))
    rows = rows.with_columns(at=iso.str.to_date("%Y-%m-%d", strict=False))
    days, others = rows.drop_nulls("at"), rows.filter(pl.col("at").is_null() & pl.col("text").is_not_null())
    read = [(days, read_dates(days["at"])), (others, _read_others(others))]
    whole = pl.concat([pl.concat([table.select("row"), parts], how="horizontal") for table, parts in read])
    return rows.select("row").join(whole, on="row", how="left", maintain_order="left").drop("row")


def _shared_parts(text: pl.Series) -> pl.DataFrame:
    """Return what both ends of intervals share; the second may leave out year, month and day of the first."""
    ends = text.to_frame("text").select(pl.col("text").str.extract_groups(_INTERVAL).struct.rename_fields(["a", "b"]))
    lacks_year, has_day = pl.col("b").str.contains(r"^\d{1,2}(-\d{1,2})?$"), pl.col("a").str.contains(r"^\d{4}-\d{2}-")
    is_time = pl.col("b").str.contains(r"^\d{1,2}:\d{2}") & pl.col("a").str.contains(r"^\d{4}-\d{2}-\d{2}[T ]\d")
    lent = (
        pl.when(is_time).then(11).when(~lacks_year).then(0)
        .when(pl.col("b").str.contains("-") | ~has_day).then(5).otherwise(8)
    )  # fmt: skip
    ends = ends.unnest("text").with_columns(b=pl.concat_str(pl.col("a").str.slice(0, lent), "b"))
    first, last = _read_points(ends["a"]), _read_points(ends["b"])
    both = pl.concat([first, last.rename(lambda name: f"last_{name}")], how="horizontal")
    same_year = pl.col("year") == pl.col("last_year")
    same_month = same_year & (pl.col("month") == pl.col("last_month"))
    apart = pl.when(~same_year).then(pl.lit(SEVERAL_YEARS, _FAULT))
    return both.select(
        pl.when(same_year).then("year").alias("year"),
        pl.when(same_month).then("month").alias("month"),
        pl.when(same_month & (pl.col("day") == pl.col("last_day"))).then("day").alias("day"),
        pl.coalesce("fault", "last_fault", apart).alias("fault"),
    )


def _read_others(table: pl.DataFrame) -> pl.DataFrame:
    """Return the parts of ``text`` that is neither nothing, an ISO day nor an interval with months."""
    text, size = pl.col("text"), pl.col("text").str.len_chars()
    digits = text.str.contains(r"^\d+$")
    units = size.replace_strict(_PER_SECOND | {n - 1: per for n, per in _PER_SECOND.items()}, default=None)
    seconds = pl.when(digits).then(text.cast(pl.Int64, strict=False)) // units
    three = text.str.extract_groups(_THREE).struct.rename_fields(["a", "sep", "b", "c"])
    table = table.select(
        "text", three.alias("three"), day=pl.from_epoch(seconds, time_unit="s"), is_digits=digits, size=size
    ).unnest("three")
    doubts = {"doubt": _is_in_doubt().fill_null(False), "season": _is_season().fill_null(False)}
    read = table.select("text", **doubts, **_first_way(_ways()))
    years = text.str.contains(_YEARS) | pl.col("season")
    unread = (
        pl.when(years).then(pl.lit(SEVERAL_YEARS)).when(text.str.contains(_NUMBER)).then(pl.lit(BARE_NUMBER))
        .otherwise(pl.lit(NOT_A_DATE))
    )  # fmt: skip
    why = pl.when(pl.col("year").is_null()).then(unread).when("doubt").then(pl.lit(AMBIGUOUS)).cast(_FAULT)
    checked = pl.concat([read.select(why=why), read.select(*_checked())], how="horizontal")
    return checked.select("year", "month", "day", pl.coalesce("fault", "why").alias("fault"))


_Way = tuple[pl.Expr, pl.Expr, pl.Expr | None, pl.Expr | None]
"""A way of writing a date: where it is met, and its year, month and day."""


def _ways() -> list[_Way]:
    """Return the ways of writing a date, over the parts ``a sep b (sep c)`` of a text; the first that is met counts."""
    text, day = pl.col("text"), pl.col("day")
    a, b, c = (pl.col(name).cast(pl.Int32) for name in "abc")
    long_a, long_b, long_c = (pl.col(name).str.len_chars() for name in "abc")
    pair, dots, short = pl.col("c").is_null(), pl.col("sep") == ".", long_b <= 2
    compact = (pl.col("is_digits") & (pl.col("size") == 8)) | text.str.contains(_COMPACT)
    year, month, day_of_month = (
        text.str.slice(at, n).cast(pl.Int32, strict=False) for at, n in ((0, 4), (4, 2), (6, 2))
    )
    year_last = (long_a <= 2) & short & (long_c == 4)
    return [
        (pl.col("is_digits") & (pl.col("size") == 4), year, None, None),
        (compact, year, month, day_of_month),
        (day.is_not_null(), day.dt.year(), day.dt.month(), day.dt.day()),
        (_is_season(), pl.lit(None, pl.Int32), None, None),
        ((long_a == 4) & short & ((pair & ~dots) | (long_c <= 2)), a, b, c),
        (_is_in_doubt(), c, None, None),
        (year_last & (a <= 12) & (b > 12), c, a, b),
        (year_last, c, b, a),
        ((long_a <= 2) & (long_b == 4) & pair, b, a, None),
        (text.str.contains(_YEARS) & (a == b), a, None, None),
    ]


def _is_season() -> pl.Expr:
    """Return where ``a/b`` is a year and the next one, such as 2018/19, and no month."""
    a, b = pl.col("a").cast(pl.Int32), pl.col("b").cast(pl.Int32)
    two = (pl.col("a").str.len_chars() == 4) & (pl.col("b").str.len_chars() == 2) & pl.col("c").is_null()
    return two & (pl.col("sep") == "/") & (b > 12) & (b == (a + 1) % 100)


def _is_in_doubt() -> pl.Expr:
    """Return where ``a/b/c`` may be day and month or month and day; with dots, the day comes first."""
    a, b = pl.col("a").cast(pl.Int32), pl.col("b").cast(pl.Int32)
    year_last = (pl.col("a").str.len_chars() <= 2) & (pl.col("c").str.len_chars() == 4)
    return year_last & (pl.col("sep") != ".") & (a <= 12) & (b <= 12) & (a != b)


def _first_way(ways: list[_Way]) -> dict[str, pl.Expr]:
    """Return year, month and day as of the first way that is met."""
    met = pl.coalesce(*(pl.when(way[0]).then(pl.lit(i)) for i, way in enumerate(ways)))
    chosen = {}
    for at, name in enumerate(("year", "month", "day"), start=1):
        values = [(i, way[at]) for i, way in enumerate(ways)]
        known = [pl.when(met == i).then(value) for i, value in values if value is not None]
        chosen[name] = pl.coalesce(*known).cast(pl.Int32)
    return chosen
