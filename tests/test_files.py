from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from releve import files
from releve.errors import ReleveError, RunError
from releve.files import atomic_path, disk_error, file_sha256, make_way, write_json, write_parquet, write_text


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


def test_on_windows_no_process_is_asked_whether_it_lives_since_that_would_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / ".a.txt.12345.part"
    leftover.write_text("half")
    killed: list[int] = []
    fake = SimpleNamespace(name="nt", kill=lambda pid, signal: killed.append(pid), getpid=os.getpid, fsync=os.fsync)
    monkeypatch.setattr(files, "os", fake)
    write_text(tmp_path / "a.txt", "whole")
    assert killed == [] and leftover.exists()


def test_way_is_made_where_the_same_command_wrote_and_nobody_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_way(out, "demo", overwrite=False)
    for name in ("store", ".store.old", "store.part", ".release.part"):
        (out / name).mkdir(parents=True)
    write_json(out / "run.json", {"command": "demo", "entries": ["store", "release"]})
    (out / ".run.json.123.part").write_text("half")
    with pytest.raises(RunError, match="exists"):
        make_way(out, "demo", overwrite=False)
    with pytest.raises(RunError, match="not made by releve simulate"):
        make_way(out, "simulate", overwrite=True)
    (out / "thesis.tex").write_text("keep")
    with pytest.raises(RunError, match=r"holds \['thesis.tex'\]"):
        make_way(out, "demo", overwrite=True)
    assert (out / "thesis.tex").read_text() == "keep"
    (out / "thesis.tex").unlink()
    make_way(out, "demo", overwrite=True)
    assert not out.exists()


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"command": "train"}'])
def test_a_folder_without_the_commands_own_run_json_is_never_removed(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match="not made by releve simulate"):
        make_way(tmp_path, "simulate", overwrite=True)
    assert (tmp_path / "truth").is_dir()


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


def test_folders_that_are_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "data/AWT").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for file in ("data/AWT/a.csv", "elsewhere/b.csv"):
        (tmp_path / file).write_text("x")
    (tmp_path / "data/CAN").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/AWT/up").symlink_to(tmp_path / "data", target_is_directory=True)  # a circle
    found = [path.relative_to(tmp_path / "data").as_posix() for path in files.files_below(tmp_path / "data")]
    assert found == ["AWT/a.csv", "CAN/b.csv"]
