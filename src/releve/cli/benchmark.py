"""Commands that score Relevé on public benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from releve.cli.app import app
from releve.cli.options import AsJson, Seed, existing
from releve.cli.show import print_json, print_rows
from releve.progress import say

benchmark = typer.Typer(no_args_is_help=True, help="Score Relevé on public benchmarks, beside reference models.")
app.add_typer(benchmark, name="benchmark")


@benchmark.command()
def nceas(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder with the regions' tables, at any depth",
            callback=existing("a folder of regions"),
        ),
    ],
    as_json: AsJson = False,
    buffer_km: Annotated[
        float, typer.Option("--buffer-km", help="Leave out presence-only sites nearer than this to any plot")
    ] = 0.0,
    seed: Seed = 0,
    regions: Annotated[
        list[str] | None, typer.Option("--regions", metavar="NAME", help="Run this region only; may be repeated")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for species.csv, summary.json and auc.png; replaced if there")
    ] = None,
    no_references: Annotated[
        bool, typer.Option("--no-references", help="Leave out MaxEnt and the down-sampled forests")
    ] = False,
) -> None:
    """Train on presence-only records and score on independent plots: the NCEAS benchmark of Elith et al. (2020).

    DIR holds tables of the R package disdat as parquet or CSV: `AWTtrain_po`, `AWTtrain_bg`, `AWTtest_env_bird`,
    `AWTtest_pa_bird`, and so on. AUC and average precision are means over species, each scored on the plots of its
    own survey group, with the gain over each reference model and its 95 % interval. The reference model MaxEnt needs
    `pip install "releve[benchmark]"`.
    """
    from releve.nceas.figure import make_folder, write_results
    from releve.nceas.protocol import overall_rows, region_rows, run_benchmark

    if out is not None:
        make_folder(out)
    result = run_benchmark(folder, seed=seed, buffer_km=buffer_km, regions=regions, references=not no_references)
    if out is not None:
        write_results(result, out)
    if as_json:
        print_json(result.to_dict())
        return
    for title, rows in {
        "All species, on independent plots": overall_rows(result),
        "AUC (average precision) by region (number of species)": region_rows(result),
    }.items():
        print_rows(title, list(rows[0]), [list(row.values()) for row in rows])
    for name, lines in result.notes.items():
        for line in lines:
            say(f"{name}: {line}")
