"""Which files of a folder are what."""

from __future__ import annotations

from pathlib import Path

import pytest

from releve.discover.listing import DOCUMENT, EMPTY, OURS, list_folder
from releve.errors import TableError


def touch(folder: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_tables_and_rasters_come_in_the_order_of_people_and_parts_are_no_files(tmp_path: Path) -> None:
    touch(
        tmp_path, "bio10.tif", "bio2.tif", "bio2.tfw", "bio2.tif.aux.xml", "sw.grd", "sw.gri", "sites.shp", "sites.dbf"
    )
    touch(tmp_path, "sites.shx", "sites.prj", "sites.shp.xml", "soil.tif.vat.dbf", "soil.tif", "Plots.csv")
    found = list_folder(tmp_path)
    assert [path.name for path in found.rasters] == ["bio2.tif", "bio10.tif", "soil.tif", "sw.grd"]
    assert [path.name for path in found.tables] == ["Plots.csv", "sites.shp"]
    assert found.left_out == ()


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    touch(tmp_path, "data.rds", "notes.pdf", "lonely.dbf", "README.md", "run1/run.json", "run1/predictions.csv")
    touch(tmp_path, "empty.csv", content=b"")
    touch(tmp_path, ".hidden.csv", "__MACOSX/a.csv", "~$plots.xlsx", "study.toml")
    found = list_folder(tmp_path)
    why = {path.name: reason for path, reason in found.left_out}
    assert why["empty.csv"] == EMPTY and why["run1"] == OURS and why["notes.pdf"] == DOCUMENT
    assert "write.csv()" in why["data.rds"] and "database" in why["lonely.dbf"]
    assert found.tables == () and [path.name for path in found.documents] == ["README.md"]
    assert not {".hidden.csv", "a.csv", "~$plots.xlsx", "predictions.csv", "study.toml"} & set(why)


def test_links_are_followed_and_a_folder_that_is_met_twice_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path / "far", "plots.csv")
    study = tmp_path / "my study é"
    study.mkdir()
    (study / "data").symlink_to(tmp_path / "far")
    (study / "again").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(study)
    assert [path.as_posix() for path in list_folder(study).tables] == [(study / "again" / "plots.csv").as_posix()]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is no folder"):
        list_folder(tmp_path / "missing")
