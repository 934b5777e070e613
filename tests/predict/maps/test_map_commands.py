from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from commands import Commands
from drawn import box_km, write_maps, write_zones


def test_maps_are_exported_compared_and_summed_up_from_the_command_line(tmp_path: Path, commands: Commands) -> None:
    probs = np.full((20, 36, 2), 0.5, np.float32)
    write_maps(tmp_path / "a", probs, groups={"watched": (1,)})
    write_maps(tmp_path / "b", probs * np.float32(1.2))
    named = "--species", "species A", "--group", "watched"
    assert commands.run("map", "export", tmp_path / "a", *named, "--out", tmp_path / "x").code == 0
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["Species_a.tif", "Species_b.tif"]
    done = commands.run("map", "change", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "change")
    assert done.code == 0 and "Of both maps: a note" in done.stderr
    there = {path.name for path in (tmp_path / "change").iterdir()}
    assert there >= {"gain.tif", "loss.tif", "turnover.tif", "change.json", "maps.html", "run.json"}
    zones = write_zones(tmp_path / "z.gpkg", box_km(1, 1, 3.5, 2))
    done = commands.run("map", "summary", tmp_path / "a", "--zones", zones, "--out", tmp_path / "t.csv")
    assert done.code == 0 and "t_species.csv" in done.stdout
    assert pl.read_csv(tmp_path / "t.csv", glob=False)["richness"].to_list() == [1.0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "a", "--species", "Spesies a", "--out", "x"), "did you mean 'Species a'"),
        (("summary", "a", "--zones", "none.gpkg", "--out", "t.csv"), "none.gpkg does not exist"),
        (("change", "a", ".", "--out", "c"), "is not maps, as releve map draws them"),
    ],
)
def test_what_is_wrong_is_one_message(
    arguments: tuple[str, ...], said: str, tmp_path: Path, commands: Commands
) -> None:
    write_maps(tmp_path / "a", np.full((20, 36, 2), 0.5, np.float32))
    paths = {"a", ".", "none.gpkg", "t.csv", "x", "c"}
    done = commands.run("map", *(tmp_path / each if each in paths else each for each in arguments))
    assert done.code == 2 and done.stderr.startswith("error:") and said in done.stderr
