"""Write small regions in the layout of the NCEAS benchmark, where two species of each group follow the rain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

SPECIES = {"bird": ("xx01", "xx02", "xx03"), "plant": ("xx04", "xx05")}
CENTRES = {"xx01": 0.2, "xx02": 0.8, "xx03": 0.5, "xx04": 0.25, "xx05": 0.75}
EXTENT_M = 200_000


def make_places(num: int, rng: np.random.Generator) -> pl.DataFrame:
    x, y = rng.uniform(0, EXTENT_M, (2, num)).round()
    rain = (x / EXTENT_M + rng.normal(0, 0.05, num)).clip(0, 1)
    return pl.DataFrame({
        "x": x + 300_000,
        "y": y + 8_000_000,
        "rain": (rain * 1000).round(),
        "temperature": (20 - 5 * y / EXTENT_M).round(2),
        "disturb": rng.integers(1, 4, num),
        "ontveg": rng.choice([10, 20, 35], num),
        "flat": np.ones(num),
    })  # fmt: skip


def chance(places: pl.DataFrame, species: str) -> np.ndarray:
    return 0.9 * np.exp(-(((places["rain"].to_numpy() / 1000 - CENTRES[species]) / 0.15) ** 2))


def write_region(
    folder: Path, name: str = "XX", *, seed: int = 0, num_sites: int = 80, num_plots: int = 60, suffix: str = "parquet"
) -> Path:
    """Write one region of two survey groups and return its folder."""
    rng = np.random.default_rng(seed)
    folder = folder / name
    folder.mkdir(parents=True)
    records = []
    for group, species in SPECIES.items():
        places = make_places(num_sites, rng)
        for one in species:
            found = places.filter(pl.Series(rng.random(num_sites) < chance(places, one)))
            records.append(found.with_columns(spid=pl.lit(one), occ=pl.lit(1), group=pl.lit(group)))
        plots = make_places(num_plots, rng)
        keys = {"group": pl.lit(group), "siteid": pl.Series([f"{group}{i}" for i in range(num_plots)])}
        env = plots.select(pl.lit(group).alias("group"), keys["siteid"].alias("siteid"), pl.all())
        pa = env.select("group", "siteid", "x", "y").with_columns(
            **{one: pl.Series((rng.random(num_plots) < chance(plots, one)).astype(int)) for one in species}
        )
        write(folder / f"{name}test_env_{group}.{suffix}", env)
        write(folder / f"{name}test_pa_{group}.{suffix}", pa)
    po = pl.concat(records)
    write(folder / f"{name}train_po.{suffix}", po.select(pl.int_range(pl.len()).alias("siteid"), pl.all()))
    background = make_places(300, rng).with_columns(spid=pl.lit("pseudo1"), occ=pl.lit(0), group=pl.lit(None))
    write(folder / f"{name}train_bg.{suffix}", background)
    return folder


def write(path: Path, table: pl.DataFrame) -> None:
    if path.suffix == ".csv":
        table.write_csv(path, null_value="NA")
    else:
        table.write_parquet(path)


def edit(path: Path, *changes: pl.Expr) -> None:
    """Replace columns of a table on disk."""
    write(path, pl.read_parquet(path).with_columns(*changes))
