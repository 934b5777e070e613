"""The command `releve init`: what it writes, prints and refuses."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from commands import Commands
from releve.discover.document import study_text
from releve.discover.study import look_through

from .folders import long_plots, places, write, write_raster

AMOUNT = np.random.default_rng(5).uniform(5, 15, (10, 10)).astype("float32")


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and time of every file below a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_init_writes_one_file_elsewhere_and_check_takes_it(tmp_path: Path, commands: Commands) -> None:
    data = write(tmp_path / "Données de terrain", plots=long_plots())
    write_raster(data / "climat" / "bio 1.tif", AMOUNT)
    (tmp_path / "link").symlink_to(data)
    before = listing(data)
    out = tmp_path / "work dir" / "study.toml"
    done = commands.run("init", str(tmp_path / "link"), "--out", str(out))
    assert done.code == 0 and listing(data) == before
    lines = done.stdout.splitlines()
    assert any(line.split()[:2] == ["plots.csv", "plots"] for line in lines)
    assert any(line.startswith(" climat/bio 1.tif   rasters") for line in lines)
    assert lines[-3:-1] == [f"  releve check '{out}'", f"  releve run --data '{out}' --out run"]
    assert tomllib.loads(out.read_text(encoding="utf-8"))["study"]["plots"][0]["file"] == "../link/plots.csv"
    checked = commands.run("check", str(out))
    assert checked.code == 0 and "A run can start." in checked.stdout


def test_a_relative_folder_is_looked_through_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lonlat = places(30)
    rows = ["plot,lon,lat,species,bio1"]
    rows += [
        f"P{i},{lon},{lat},{name},{AMOUNT[int((50 - lat) / 0.1), int((lon - 10) / 0.1)]:.2f}"
        for i, (lon, lat) in enumerate(lonlat)
        for name in ("Poa annua", "Abies alba")
    ]
    write(tmp_path / "data", plots="\n".join(rows))
    write_raster(tmp_path / "data" / "bio1.tif", AMOUNT * 10)
    monkeypatch.chdir(tmp_path)
    found = look_through(Path("data"))
    assert [note.conversion for note in found.units] == ["divided by 10"]
    study = tomllib.loads(study_text(found, Path()))["study"]
    assert [study["plots"][0]["file"], study["rasters"][0]["file"]] == ["data/plots.csv", "data/bio1.tif"]
    monkeypatch.chdir(tmp_path / "data")
    assert tomllib.loads(study_text(look_through(Path()), Path()))["study"]["title"] == "data"


def test_what_is_there_is_not_replaced_unless_told(tmp_path: Path, commands: Commands) -> None:
    write(tmp_path, plots=long_plots())
    out = tmp_path / "study.toml"
    out.write_text("mine")
    done = commands.run("init", str(tmp_path), "--out", str(out))
    assert done.code == 2 and out.read_text() == "mine"
    assert done.stderr.split("error: ")[1] == f"{out} exists. Give another file with --out, or --overwrite.\n"
    assert commands.run("init", str(tmp_path), "--out", str(out), "--overwrite").code == 0
    assert "[study]" in out.read_text()


def test_an_empty_folder_is_an_error_and_writes_nothing(tmp_path: Path, commands: Commands) -> None:
    done = commands.run("init", str(tmp_path), "--out", str(tmp_path / "study.toml"))
    assert done.code == 2 and "holds neither plots nor records: it is empty" in done.stderr
    assert not list(tmp_path.iterdir())


def test_two_thousand_files_are_looked_through_in_seconds(tmp_path: Path) -> None:
    data = write(tmp_path, plots=long_plots())
    raster = write_raster(data / "layers" / "layer0.tif", AMOUNT)
    for at in range(1, 1000):
        (data / "layers" / f"layer{at}.tif").write_bytes(raster.read_bytes())
    text = "species,lon,lat\n" + "".join(f"Poa annua,{lon},{lat}\n" for lon, lat in places(5))
    for at in range(1000):
        (data / f"tile_{at}.csv").write_text(text, encoding="utf-8")
    started = time.process_time()
    found = look_through(data)
    assert time.process_time() - started < 60  # some 10 seconds; one look at each value would take minutes
    assert [len(part.files) for part in found.parts] == [1, 1000]
    assert [(group.pattern, len(group.layers)) for group in found.rasters] == [("*.tif", 1000)]
    study = tomllib.loads(study_text(found, tmp_path))["study"]
    assert [study["records"][0]["file"], study["rasters"][0]["file"]] == ["tile_*.csv", "layers/*.tif"]
