from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from releve.errors import ReleveError
from releve.files import atomic_path, disk_error, file_sha256, write_json, write_parquet, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    with atomic_path(file) as partial:
        partial.write_text("whole")
        assert not file.exists()
    assert file.read_text() == "whole"
    assert [p.name for p in file.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), atomic_path(file) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f".a[1].txt.{pid}.part").write_text("half")
    write_text(tmp_path / "a[1].txt", "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].txt", f".a[1].txt.{os.getppid()}.part"}


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleveError, match=r"cannot write .*that you may write to"):
        write_text(tmp_path / "file" / "a.txt", "")


def test_a_full_disk_names_the_free_space(tmp_path: Path) -> None:
    error = disk_error(OSError(28, "No space left on device"), tmp_path / "missing" / "a.txt")
    assert "No space left on device" in str(error) and "GB free there" in str(error)
    assert "100 requested and 3 written" in str(disk_error(OSError("100 requested and 3 written"), tmp_path))


def test_polars_error_of_a_full_disk_is_an_oserror(tmp_path: Path) -> None:
    code = f"""
import resource, sys
from pathlib import Path
import polars as pl
from releve.errors import ReleveError
from releve.files import atomic_path, write_parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_path(Path({str(tmp_path / "t.parquet")!r})) as partial:
        write_parquet(partial, pl.DataFrame({{"a": range(100000)}}))
except ReleveError as error:
    sys.exit("File too large" not in str(error))
sys.exit(2)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_json_parquet_and_checksums(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": Path("y")})
    assert (tmp_path / "a.json").read_text() == '{\n "x": "y"\n}\n'
    write_parquet(tmp_path / "a.parquet", pl.DataFrame({"a": [1]}))
    assert pl.read_parquet(tmp_path / "a.parquet")["a"].to_list() == [1]
    assert file_sha256(tmp_path / "a.json") == hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()
