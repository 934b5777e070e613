"""Tables of text as people and programs write them: one reader for releases and for tables of one's own."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from releve.errors import ReleaseError, ReleveError, TableError
from releve.ingest.names import find_column
from releve.ingest.quotes import SEPARATOR_INSIDE, BrokenQuote, separators_within_quotes, take_off_quotes

MISSING_WORDS = ("", "na", "n/a", "#n/a", "nan", "nat", "null", "none", "nil", "missing", "-", "--", "?", r"\n")
"""What people and programs write where a value is missing, in lower case."""
_IN_CASES = {spelt for word in MISSING_WORDS for spelt in (word, word.upper(), word.capitalize())}
MISSING = tuple(sorted(_IN_CASES | {"NaN", "NaT"}))
"""The same as they are spelt in tables of text."""
SEPARATORS = (",", ";", "\t", "|")

WINDOWS = "read as Windows-1252, as it is not UTF-8"
LOST = "letters that were lost before (U+FFFD)"
SHORT = "fewer cells than the header has, the last ones taken as missing"
LONG = "more cells than the header has"
BLANK = "row without any value"
ROW_NAMES = "one cell more than the header has in every row, the first taken as the row's name"
NUM_EXAMPLES = 3

_BLOCK = 1 << 24
_LOST = "\ufffd"
_FOREIGN = "\x1e"
"""Stands in a line that was Windows-1252 until the rows are counted."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_BINARY = {b"PK\x03\x04": "a zipped file or a spreadsheet", b"\x1f\x8b": "a gzipped file", b"PAR1": "a parquet file"}


@dataclass(frozen=True)
class TextTable:
    """The rows of a table, every cell as it is written."""

    path: Path
    cells: pl.DataFrame
    """Text without blanks at its ends, null where a value is missing; columns without a name are left out."""
    rows: pl.Series
    """The number of each row in the file; row 1 is the first below the header."""
    separator: str
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason."""
    noted: dict[str, int] = field(default_factory=dict)
    """Rows that were mended, by what was done."""
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The first few rows of each reason."""
    header: tuple[str, ...] = ()
    """All columns of the file that have a name, those as well that were not read."""

    def number(self, column: str) -> pl.Expr:
        """Return a column of ``cells`` as Float64; null where a cell is empty or no number.

        A comma is a decimal comma where it does not separate the columns.
        """
        return number(column, decimal_comma=self.separator != ",")

    def not_numbers(self, column: str) -> pl.DataFrame:
        """Return row and cell of the cells of a column that hold something which is no number, such as ``5km``."""
        cells = self.cells[column]
        is_word = cells.to_frame().select(pl.col(column).is_not_null() & self.number(column).is_null()).to_series()
        return pl.DataFrame({"row": self.rows.filter(is_word), "cell": cells.filter(is_word)})


def number(column: str, *, decimal_comma: bool) -> pl.Expr:
    """Return the expression of a column of text as Float64, null where it is no number.

    Examples
    --------
    >>> import polars as pl
    >>> pl.DataFrame({"x": ["48,5", "-3", "5km", None]}).select(number("x", decimal_comma=True))["x"].to_list()
    [48.5, -3.0, None, None]
    """
    text = pl.col(column)
    if decimal_comma:
        text = text.str.replace(r"^([^,.]*),([^,.]*)$", "$1.$2")
    return text.cast(pl.Float64, strict=False).fill_nan(None)


def read_header(path: Path, *, error: type[ReleveError] = TableError) -> list[str]:
    """Return the column names of a table of text as :func:`read_text_table` finds them, without its unnamed columns.

    Raises
    ------
    ReleveError
        Of the class given: if the file cannot be opened, is empty or no text, or has several columns of one name.
    """
    return [name for name in read_form(Path(path), error).header if name]


def key_column(path: Path, wanted: Sequence[str]) -> str:
    """Return the name of a table's column of ids.

    Raises
    ------
    ReleaseError
        If it has none.
    """
    header = read_header(path, error=ReleaseError)
    key = find_column(header, wanted)
    if key is None:
        raise ReleaseError(f"{path} has no column of ids; it has {header[:10]}", expected=f"one of {list(wanted)}")
    return key


def read_text_table(
    path: Path, columns: Collection[str] | None = None, *, error: type[ReleveError] = TableError
) -> TextTable:
    """Return the rows of a table of text, and an account of what was mended or left out.

    The encoding is that of the byte order mark, else UTF-8, and Windows-1252 for lines that are not; the separator is
    that of ``, ; tab |`` which the header holds most often. Rows with too many cells are left out, as nobody knows
    which one is too many; those with too few are kept. A quote that never closes is a letter. Files without such
    habits, however large, are read by polars as they are; all others are mended in memory first.

    Parameters
    ----------
    path
        The file; letters such as ``*`` or ``[`` in it are no patterns.
    columns
        Names of the columns to read; all by default.
    error
        Class of the exceptions.

    Raises
    ------
    ReleveError
        Of the class given: if the file cannot be opened, is empty or no text, has no row below the header, has several
        columns of one name, or quotes that join whole rows.
    """
    form = read_form(Path(path), error)
    return _read_clean(form, columns) or _read_mended(form, columns, error)


@dataclass(frozen=True)
class _Account:
    """What was mended and left out in a file, by rows."""

    form: TextForm
    dropped: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, reason: str, is_so: NDArray[np.bool_], *, dropped: bool = False) -> None:
        """Count rows under a reason."""
        if is_so.any():
            (self.dropped if dropped else self.noted)[reason] = int(is_so.sum())
            self.examples[reason] = tuple(f"row {at + 1}" for at in np.flatnonzero(is_so)[:NUM_EXAMPLES])

    def table(self, cells: pl.DataFrame, is_kept: NDArray[np.bool_] | None = None) -> TextTable:
        """Return the rows kept, without those that hold nothing, their cells without blanks at their ends."""
        ends = pl.all().str.starts_with(" ").any() | pl.all().str.ends_with(" ").any()
        padded = [name for name, is_padded in cells.select(ends).row(0, named=True).items() if is_padded]
        cells = cells.with_columns(pl.col(padded).str.strip_chars())
        cells = cells.with_columns(pl.when(~pl.all().is_in(MISSING)).then(pl.all()))
        is_blank = cells.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy()
        if is_kept is not None:
            is_blank &= is_kept
        self.note(BLANK, is_blank)
        rows = pl.int_range(1, len(cells) + 1, eager=True).alias("row")
        if self.noted.get(BLANK) or is_kept is not None:
            kept = pl.Series(~is_blank if is_kept is None else is_kept & ~is_blank)
            cells, rows = cells.filter(kept), rows.filter(kept)
        header = tuple(name for name in self.form.header if name)
        found = (self.form.separator, self.dropped, self.noted, self.examples)
        return TextTable(self.form.path, cells, rows, *found, header)


# ---- the header ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextForm:
    """What the beginning of a table of text tells."""

    path: Path
    encoding: str
    """As a byte order mark says; without one UTF-8, which may turn out wrong."""
    separator: str
    header: list[str]
    """Names without blanks at their ends; empty where a column has none."""
    in_first_line: bool
    """Whether the names are the first line of the file."""


def read_form(path: Path, error: type[ReleveError] = TableError) -> TextForm:
    """Return the encoding, separator and column names of a table of text.

    Raises
    ------
    ReleveError
        Of the class given: if the file cannot be opened, is empty or no text, or has several columns of one name.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(1 << 20)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}", action="Check the path") from problem
    found = next((what for magic, what in _BINARY.items() if head.startswith(magic)), None)
    encoding = _encoding(head)
    if encoding == "utf-8" and b"\0" in head:
        found = found or "not text: it holds null bytes"
    if found:
        raise error(f"{path} is {found}", expected="a table of text", action="Unpack it, or save it as CSV in UTF-8")
    text = _decode(head, encoding).removeprefix("\ufeff")
    declared, text, in_first_line = _without_preface(_unix_lines(text))
    if not text.strip():
        raise error(f"{path} is empty", expected="a table with a header", action="Download or write it again")
    separator = declared or _separator(text)
    header = [" ".join(name.split()) for name in next(csv.reader(io.StringIO(text), delimiter=separator))]
    header = ["" if re.fullmatch(r"Unnamed: \d+", name) else name for name in header]  # an index that pandas wrote
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise error(f"{path} has several columns called {twice}", expected="a name of its own for each column")
    return TextForm(path, encoding, separator, header, in_first_line)


def _encoding(head: bytes) -> str:
    """Return the encoding that the first bytes tell: by a mark, or as every second one is null."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    sample = head[:1000]
    if sample.count(b"\0") > len(sample) / 3:
        return "utf-16-be" if sample[0] == 0 else "utf-16-le"
    return "utf-8"


def _decode(content: bytes, encoding: str) -> str:
    """Return text whose last letter may be cut off; lines that are not UTF-8 are Windows-1252."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError:
        if encoding == "utf-8":
            return _decode_lines(content).replace(_FOREIGN, "")
        return content.decode(encoding, errors="replace")


def _decode_lines(content: bytes) -> str:
    """Return lines of UTF-8 and of Windows-1252, the latter with a ``_FOREIGN`` after their first such letter."""
    content = content.removeprefix(codecs.BOM_UTF8)
    return "\n".join(map(_decode_line, content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")))


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return re.sub(r"[^\0-\x7f]", rf"\g<0>{_FOREIGN}", line.decode("cp1252", errors="replace"), count=1)


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_preface(text: str) -> tuple[str | None, str, bool]:
    """Return the separator that a line such as ``sep=;`` declares, the text behind it, and whether nothing was cut."""
    declared = re.match(r'"?sep=(.)"?\n', text)
    rest = text[declared.end() if declared else 0 :].lstrip("\n")
    return declared[1] if declared else None, rest, len(rest) == len(text)


def _separator(text: str) -> str:
    """Return the separator that the first line holds most often outside quotes; of several the first of all."""
    line = re.sub(r'"[^"]*"', "", text).partition("\n")[0]
    return max(SEPARATORS, key=line.count)


# ---- clean files: read as they are -----------------------------------------------------------------------


def _read_clean(form: TextForm, columns: Collection[str] | None) -> TextTable | None:
    """Return the table if every line of the file is a row of as many cells as the header has, else None."""
    if form.encoding != "utf-8" or not form.in_first_line or len(form.header) == 1:
        return None
    num_lines = num_separators = 0
    separator, is_quoted = form.separator.encode(), False
    with form.path.open("rb") as handle:
        for block in _whole_lines(handle):
            inside = separators_within_quotes(block.removeprefix(codecs.BOM_UTF8), separator) if b'"' in block else 0
            if inside is None or not _is_clean(block):
                return None
            is_quoted |= b'"' in block
            num_lines += block.count(b"\n") + (not block.endswith(b"\n"))
            num_separators += block.count(separator) - inside
    if num_lines == 1 or num_separators != num_lines * (len(form.header) - 1):
        return None
    try:
        cells = _parse(form.path, form, columns, quote='"' if is_quoted else None)
    except pl.exceptions.PolarsError:  # a long row and a short one, whose separators add up
        return None
    return _Account(form).table(cells) if len(cells) == num_lines - 1 else None


def _whole_lines(handle: BinaryIO) -> Iterator[bytes]:
    """Yield a file in blocks that end with a line."""
    while block := handle.read(_BLOCK):
        yield block if block.endswith(b"\n") else block + handle.readline()


def _is_clean(block: bytes) -> bool:
    """Return whether whole lines are UTF-8 without lost letters, ended in one of the two usual ways, none empty."""
    if block.count(b"\r") != block.count(b"\r\n") or b"\n\n" in block or b"\n\r" in block:
        return False
    if block.startswith((b"\n", b"\r")) or b"\0" in block:
        return False
    try:
        return block.isascii() or _LOST not in block.decode()
    except UnicodeDecodeError:
        return False


def _numbered(header: list[str]) -> list[str]:
    return [f"column_{at + 1}" for at in range(len(header))]


def _parse(
    source: Path | io.BytesIO, form: TextForm, columns: Collection[str] | None, *, quote: str | None
) -> pl.DataFrame:
    """Return the named columns as text; of mended text, whose header is numbered, without the cells beyond it."""
    names = dict(zip(_numbered(form.header), form.header, strict=True))
    is_mended = not isinstance(source, Path)
    wanted = {old: name for old, name in names.items() if name and (columns is None or name in columns)}
    table = pl.read_csv(
        source,
        separator=form.separator,
        has_header=is_mended,
        skip_lines=0 if is_mended else 1,
        quote_char=quote,
        schema=dict.fromkeys(names, pl.String),
        columns=list(wanted),
        truncate_ragged_lines=is_mended,
        glob=False,
    )
    return table.select(pl.col(old).alias(name) for old, name in wanted.items())


# ---- others: mended in memory ----------------------------------------------------------------------------


def _read_mended(form: TextForm, columns: Collection[str] | None, error: type[ReleveError]) -> TextTable:
    """Return the table of a file whose encoding, quotes or rows are not as they should be."""
    account = _Account(form)
    text = _read_utf8(form)
    if b'"' in text:
        try:
            text = take_off_quotes(text, form.separator, len(form.header))
        except BrokenQuote as broken:
            name = form.header[broken.column] if broken.column < len(form.header) else ""
            raise error(
                f"{form.path}: a quote that opens in line {broken.begin}, column {name!r}, closes in line "
                f"{broken.end}, and the lines between are whole rows",
                expected="quotes around single cells",
                action="Remove the quote that stands alone, or double it",
            ) from broken
    lines = np.array(text.split(b"\n")[1:], dtype=object)
    is_windows = np.array([_FOREIGN.encode() in line for line in lines], dtype=bool)
    text = text.replace(_FOREIGN.encode(), b"")
    is_blank = np.array([not line.strip() for line in lines], dtype=bool)
    if is_blank.all():
        raise error(f"{form.path} has a header and no row", expected="at least one row below the header")
    separator = form.separator.encode()
    if _has_row_names(lines[~is_blank], separator, len(form.header)):
        form = replace(form, header=["", *form.header])
        account.note(ROW_NAMES, ~is_blank)
    num_columns = len(form.header)
    numbered = form.separator.join(_numbered(form.header)).encode()
    source = io.BytesIO(b"\n".join([numbered, text.partition(b"\n")[2], b""]))
    cells = _parse(source, form, columns, quote=None)
    assert len(cells) == len(lines), f"{len(cells)} rows of {len(lines)} lines of {form.path}"
    if SEPARATOR_INSIDE.encode() in text:
        cells = cells.with_columns(pl.all().str.replace_all(SEPARATOR_INSIDE, form.separator, literal=True))
    num_cells = np.array([line.count(separator) + 1 for line in lines], dtype=np.int64)
    is_long = num_cells > num_columns
    for at in np.flatnonzero(is_long):
        is_long[at] = any(cell.strip() for cell in lines[at].split(separator)[num_columns:])
    account.note(SHORT, (num_cells < num_columns) & ~is_blank)
    account.note(WINDOWS, is_windows)
    account.note(LOST, np.array([_LOST.encode() in line for line in lines], dtype=bool))
    account.note(LONG, is_long, dropped=True)
    return account.table(cells, ~is_long)


def _has_row_names(lines: NDArray[np.object_], separator: bytes, num_names: int) -> bool:
    """Return whether every row has one cell more than there are names, the first unique: R's ``write.table``.

    A last cell that is empty in every row is that of a separator which ends the rows.
    """
    if len(lines) < 2 or not all(line.count(separator) == num_names for line in lines):
        return False
    first = {line.partition(separator)[0].strip() for line in lines}
    return (
        len(first) == len(lines) and b"" not in first and any(line.rpartition(separator)[2].strip() for line in lines)
    )


def _read_utf8(form: TextForm) -> bytes:
    r"""Return a file in UTF-8 from its header on, its lines ended by ``\n``; ``_FOREIGN`` is in those that were not."""
    content = form.path.read_bytes()
    try:
        text = content.decode(form.encoding)
    except UnicodeDecodeError:
        is_utf8 = form.encoding == "utf-8"
        text = _decode_lines(content) if is_utf8 else content.decode(form.encoding, errors="replace")
    _, text, _ = _without_preface(_unix_lines(text.removeprefix("\ufeff")))
    return text.rstrip("\n").encode()
