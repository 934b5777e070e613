"""The reader of tables: what people and programs write, row by row."""

from __future__ import annotations

import warnings
from pathlib import Path

import polars as pl
import pytest

from releve.errors import ReleaseError, TableError
from releve.ingest.dates import as_text
from releve.ingest.text import (
    BLANK,
    LONG,
    LOST,
    MISSING_WORDS,
    ROW_NAMES,
    SHORT,
    WINDOWS,
    TextTable,
    read_header,
    read_text_table,
)

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
PLAIN = "id,place,lon\n1,Bois,2.5\n2,Pré,3.5\n"


def read(tmp_path: Path, content: str | bytes, **options: object) -> TextTable:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_text_table(path, **options)  # type: ignore[arg-type]


def rows_of(table: TextTable) -> list[tuple[str | None, ...]]:
    return table.cells.rows()


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: str(name)
)
def test_an_encoding_is_told_by_its_mark_or_its_nulls(encoding: str, tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN.encode(encoding))
    assert rows_of(table) == [("1", "Bois", "2.5"), ("2", "Pré", "3.5")] and not table.noted


def test_what_is_not_utf8_is_windows_1252_and_said(tmp_path: Path) -> None:
    table = read(tmp_path, PLAIN.encode("cp1252"))
    assert table.cells["place"].to_list() == ["Bois", "Pré"]
    assert table.noted == {WINDOWS: 1} and table.examples[WINDOWS] == ("row 2",)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_one_line_that_is_not_utf8_leaves_the_others_as_they_are(newline: bytes, tmp_path: Path) -> None:
    utf8 = ["id,Année,lon", "Süd-1,Pré,1", "2,Österreich,2"]
    lines = [line.encode() for line in utf8] + ['é3,"España, ñ",3'.encode("cp1252"), b"4,Bois,4", b""]
    table = read(tmp_path, newline.join(lines))
    assert table.cells.columns == ["id", "Année", "lon"]
    assert rows_of(table) == [
        ("Süd-1", "Pré", "1"), ("2", "Österreich", "2"), ("é3", "España, ñ", "3"), ("4", "Bois", "4"),
    ]  # fmt: skip
    assert table.noted == {WINDOWS: 1} and table.examples[WINDOWS] == ("row 3",)


def test_letters_that_were_lost_before_are_said(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN.replace("é", "\ufffd")).noted == {LOST: 1}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(separator: str, newline: str, tmp_path: Path) -> None:
    content = PLAIN.replace(",", separator).replace("\n", newline)
    assert rows_of(read(tmp_path, content.encode())) == [("1", "Bois", "2.5"), ("2", "Pré", "3.5")]


def test_a_separator_may_be_declared_as_excel_does(tmp_path: Path) -> None:
    table = read(tmp_path, "sep=;\r\na, b;c\r\n1;2\r\n")
    assert table.cells.to_dicts() == [{"a, b": "1", "c": "2"}]


def test_a_comma_is_decimal_where_it_does_not_separate(tmp_path: Path) -> None:
    table = read(tmp_path, "id;lon\n1;48,5\n2;-3\n3;1.234,5\n4;\n5;5km\n")
    assert table.cells.select(table.number("lon")).to_series().to_list() == [48.5, -3.0, None, None, None]
    assert table.not_numbers("lon").rows() == [(3, "1.234,5"), (5, "5km")]


def test_what_stands_for_missing_is_null_in_any_case(tmp_path: Path) -> None:
    words = ["", "NA", "na", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "-", " ", " NA ", '""', '"NA"']
    table = read(tmp_path, "id,x\n" + "".join(f"{at},{word}\n" for at, word in enumerate(words)))
    assert len(table.cells) == len(words) and table.cells["x"].null_count() == len(words)


@pytest.mark.parametrize("word", [*MISSING_WORDS, "NaT", "NULL", "Missing", "#N/A"])
def test_what_stands_for_missing_is_the_same_in_tables_of_text_and_of_parquet(word: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"id,x\n1,{word}\n").cells["x"].to_list() == [None]
    assert as_text(pl.Series([word, "0"])).to_list() == [None, "0"]


# ---- quotes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "cell"),
    [
        ('"Bois, nord"', "Bois, nord"),
        ('"Le ""Bois"" nord"', 'Le "Bois" nord'),
        ('"Bois\nnord, haut"', "Bois nord, haut"),
        ('"Bois', '"Bois'),
        ('am "Teich', 'am "Teich'),
        ('"Bois" nord', '"Bois" nord'),
        ('5" nord', '5" nord'),
        ('"""Bois"""', '"Bois"'),
    ],
)
def test_quotes_enclose_a_cell_or_are_letters(written: str, cell: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read(tmp_path, f"id,place,lon\n1,a,1\n2,{written},2\n3,{written},3\n4,b,4\n")
    assert rows_of(table) == [("1", "a", "1"), ("2", cell, "2"), ("3", cell, "3"), ("4", "b", "4")]


def test_a_quote_that_joins_whole_rows_is_refused_by_line_and_column(tmp_path: Path) -> None:
    content = 'id,place,lon\n1,a,1\n2,"Bois,2\n3,b,3\n4,La Source",4\n'
    with pytest.raises(TableError, match="opens in line 3, column 'place', closes in line 5.*whole rows"):
        read(tmp_path, content)


@pytest.mark.parametrize("case", ["b-lone-quote-start", "c-two-lone-quotes", "k-two-inside"])
def test_the_files_from_the_field_have_twelve_records(case: str) -> None:
    folder = CASES / "03-quotes-and-newlines" / case
    if not folder.is_dir():
        pytest.skip("the files from the field are not here")
    table = read_text_table(folder / "GLC24_PO_metadata_train.csv")
    assert table.cells["surveyId"].to_list() == [str(i) for i in range(100, 112)]
    assert table.cells["speciesId"].to_list() == [str(i) for i in range(7, 19)]


def test_a_table_as_r_writes_it_has_no_row_numbers(tmp_path: Path) -> None:
    """``write.csv`` names the column of row numbers "", ``write.table`` does not name it at all, pandas Unnamed: 0."""
    expected = [{"id": "7", "place": "Bois, nord"}, {"id": "8", "place": "b"}]
    write_csv = '"","id","place"\n"1",7,"Bois, nord"\n"2",8,"b"\n'
    assert read(tmp_path, write_csv).cells.to_dicts() == expected
    assert read(tmp_path, write_csv.replace('"",', "", 1)).cells.to_dicts() == expected
    assert read(tmp_path, write_csv.replace('"",', "Unnamed: 0,", 1)).cells.to_dicts() == expected


def test_rows_may_have_names_of_any_kind_if_all_of_them_have_one(tmp_path: Path) -> None:
    """R's ``write.table`` after a filter or a split: 3, 7 or France.1; one name alone is no such table."""
    expected = [{"id": "a", "lon": "5"}, {"id": "b", "lon": "6"}]
    for first, second in (("3", "7"), ('"France.1"', '"Spain.1"')):
        table = read(tmp_path, f"id,lon\n{first},a,5\n{second},b,6\n")
        assert table.cells.to_dicts() == expected and table.dropped == {} and table.noted == {ROW_NAMES: 2}
    assert read(tmp_path, "id,lon\n3,a,5\nb,6\n").dropped == {LONG: 1}
    # A separator that ends every row is no cell more, and a name twice is no name.
    assert read(tmp_path, "id,lon\na,5,\nb,6,\n").cells.to_dicts() == expected
    assert read(tmp_path, "id,lon\n1,5,\n2,6,\n").cells.rows() == [("1", "5"), ("2", "6")]
    assert read(tmp_path, "id,lon\nx,a,5\nx,b,6\n").dropped == {LONG: 2}


# ---- rows ------------------------------------------------------------------------------------------------


def test_rows_of_another_length_are_counted_and_long_ones_left_out(tmp_path: Path) -> None:
    table = read(tmp_path, "id,place,lon\n1,Bois, nord,2\n2,b\n3,c,3,\n4,d,4\n")
    assert rows_of(table) == [("2", "b", None), ("3", "c", "3"), ("4", "d", "4")]
    assert table.dropped == {LONG: 1} and table.noted == {SHORT: 1}
    assert table.examples == {LONG: ("row 1",), SHORT: ("row 2",)}
    assert table.rows.to_list() == [2, 3, 4]


def test_empty_lines_and_rows_of_separators_are_no_rows(tmp_path: Path) -> None:
    table = read(tmp_path, "id,lon\n1,2\n\n,\n2,3\n\n")
    assert rows_of(table) == [("1", "2"), ("2", "3")] and table.rows.to_list() == [1, 4]
    assert table.noted == {BLANK: 2}


def test_a_table_of_one_column_is_read(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, "id\n1\n\n2\n")) == [("1",), ("2",)]


def test_only_the_columns_asked_for_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN, columns=["lon", "id", "other"]).cells.columns == ["id", "lon"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n\n", "is empty"),
        (b"id,lon\n", "has a header and no row"),
        (b"id,lon,lon\n1,2,3\n", r"several columns called \['lon'\]"),
        (b"PK\x03\x04abc", "a zipped file or a spreadsheet"),
        (b"id,lon\n1,\x002\n", "null bytes"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=message):
        read(tmp_path, content, error=ReleaseError)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot read.*No such file"):
        read_header(tmp_path / "absent.csv")


def test_a_file_name_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "draft [1]"
    folder.mkdir()
    (folder / "plots [1].csv").write_text("id,lon\n1,2\n")
    (folder / "plots 1.csv").write_text("id,lon\n9,9\n")
    assert rows_of(read_text_table(folder / "plots [1].csv")) == [("1", "2")]


def test_large_files_are_read_as_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end with lines, wherever their size cuts them."""
    content = "id,place,lon\n" + "".join(f'{at},"Bois, {at}",{at / 8}\n' for at in range(200))
    whole = read(tmp_path, content)
    monkeypatch.setattr("releve.ingest.text._BLOCK", 7)
    in_blocks = read(tmp_path, content)
    assert in_blocks.cells.equals(whole.cells)
    assert whole.cells.with_columns(pl.col("lon").cast(pl.Float64))["lon"].sum() == 199 * 200 / 2 / 8
