"""Commands that draw maps, and make something of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from releve.cli.app import app
from releve.cli.options import MapsFolder, Overwrite, Run, existing, existing_one
from releve.cli.show import print_facts
from releve.errors import RunError
from releve.progress import say


class MapCommands(TyperGroup):
    """``releve map RUN`` draws; a word that is none of the other commands is a run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the command that is meant where none is named."""
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named or not args else ["draw", *args])


maps_app = typer.Typer(
    cls=MapCommands,
    no_args_is_help=True,
    help="Draw maps of a run: `releve map RUN --out MAPS`; then what can be made of them.",
)
app.add_typer(maps_app, name="map")


@maps_app.command("draw")
def draw_map(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder of the maps; a call that was killed goes on there")],
    rasters: Annotated[
        Path | None,
        typer.Option(
            "--rasters", help="Where covariates are taken from: a folder, a file or a study.toml", callback=existing_one
        ),
    ] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option("--bounds", metavar="W S E N", help="What is mapped, in degrees; W may lie east of E"),
    ] = None,
    region: Annotated[
        Path | None, typer.Option("--region", help="Polygons, as GeoPackage or GeoJSON", callback=existing_one)
    ] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", metavar="M", help="Side of a cell in metres")
    ] = None,
    crs: Annotated[
        str | None, typer.Option("--crs", help="Of the map, such as EPSG:3035", show_default="the rasters' own")
    ] = None,
    year: Annotated[
        int | None, typer.Option("--year", help="Of the survey that is predicted", show_default="typical of training")
    ] = None,
    area_m2: Annotated[
        float | None, typer.Option("--area-m2", help="Plot area that is predicted", show_default="typical of training")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", help="Table group, species of indicators to map", callback=existing_one),
    ] = None,
    species: Annotated[
        list[str] | None, typer.Option("--species", metavar="NAME", help="Also write this species' image; repeatable")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Also write images of a group of --groups")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32 or bf16", show_default="as trained")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Draw by the workers of a Dask scheduler: its address, or local")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and write nothing")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Predict every cell of a region: what grows there, how many species, and where the model is guessing.

    OUT holds richness, list lengths, disagreement and novelty as GeoTIFFs, the likely species of every cell and the
    places of every species, and maps.html, which shows them. Memory does not grow with the map.
    """
    from releve.predict.maps.draw import Request, draw_maps, estimate_maps
    from releve.predict.maps.export import species_of
    from releve.predict.maps.grid import Bounds
    from releve.report.map_page import write_maps_page

    if precision not in (None, "fp32", "bf16"):
        raise RunError(f"--precision {precision}", expected="fp32 or bf16")
    within = None if bounds is None else Bounds(*bounds)
    shown = tuple(species or ()), tuple(group or ())
    request = Request(rasters, within, region, resolution, crs, year, area_m2, groups, precision, *shown)
    if dry_run:
        facts = asdict(estimate_maps(run, request))
        sizes = facts.pop("num_bytes")
        facts |= {f"{name} (MB)": f"{size / 1e6:,.0f}" for name, size in sizes.items()}
        print_facts(f"maps of {run}", facts)
        return
    maps = draw_maps(run, out, request, overwrite=overwrite, scheduler=scheduler)
    page = write_maps_page(maps, species_of(maps, *shown))
    facts = {"cells mapped": f"{maps.manifest.num_cells:,}", "species kept a cell": maps.manifest.kept_per_cell}
    print_facts(
        f"maps in {out}",
        facts | {name: each.file for name, each in maps.manifest.products.items()} | {"page": page.name},
    )


@maps_app.command("export")
def export_map(
    maps: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images")],
    species: Annotated[
        list[str] | None, typer.Option("--species", metavar="NAME", help="A species to write; may be repeated")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Write all species of a group of the maps")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the map of a species as a GeoTIFF: its probability, and where it is in the cell's list.

    Nothing is predicted: the images come from what was kept of each cell.
    """
    from releve.predict.maps.export import export_species, species_of
    from releve.predict.maps.read import open_maps

    drawn = open_maps(maps)
    images = export_species(drawn, species_of(drawn, species or [], group or []), out, overwrite=overwrite)
    print_facts(f"species in {out}", {image.title: image.file for image in images})


@maps_app.command("change")
def change_map(
    first: MapsFolder,
    second: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images and their page")],
    overwrite: Overwrite = False,
) -> None:
    """Show what changes from one map to another: species gained and lost, and turnover.

    Both are of one grid and of the same species: of two years (`--year`), or from two stacks of rasters (`--rasters`).
    """
    from releve.predict.maps.change import compare_maps
    from releve.predict.maps.read import open_maps
    from releve.report.map_page import write_change_page

    change = compare_maps(open_maps(first), open_maps(second), out, overwrite=overwrite)
    page = write_change_page(change, out)
    for note in change.notes:
        say(note)
    facts = {"cells of both": f"{change.num_cells:,}"}
    print_facts(
        f"change in {out}", facts | {name: each.file for name, each in change.products.items()} | {"page": page.name}
    )


@maps_app.command("limiting")
def limiting_map(
    maps: MapsFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder of the images")],
    species: Annotated[
        list[str] | None,
        typer.Option("--species", metavar="NAME", help="A species; may be repeated", show_default="the community"),
    ] = None,
) -> None:
    """Show what holds species back: for each cell the covariate whose change would help most.

    Every cell is predicted once for each covariate: draw coarse maps for it (`--resolution`).
    """
    from releve.explain.limiting_map import draw_limiting
    from releve.predict.maps.export import species_of
    from releve.predict.maps.read import open_maps

    drawn = open_maps(maps)
    images = draw_limiting(drawn, species_of(drawn, species) if species else [None], out)
    print_facts(f"limiting factors in {out}", {image.title: image.file for image in images})


@maps_app.command("summary")
def summarise_map(
    maps: MapsFolder,
    zones: Annotated[
        Path,
        typer.Option("--zones", help="Polygons, as GeoPackage, GeoJSON or shapefile", callback=existing("polygons")),
    ],
    out: Annotated[Path, typer.Option("--out", help="Table: .csv, with another of species beside it, or .gpkg")],
    overwrite: Overwrite = False,
) -> None:
    """Sum a map up by polygon: means over their area, the share where the model guesses, and the species of each.

    Cells that a border cuts count in part. Means are of what a plot in the polygon is expected to hold; how many
    species the whole polygon holds is not known from them.
    """
    from releve.predict.maps.read import open_maps
    from releve.predict.maps.summary import summarise_zones, write_summary

    summary = summarise_zones(open_maps(maps), zones)
    for note in summary.notes:
        say(note)
    files = write_summary(summary, zones, out, overwrite=overwrite)
    facts = {"zones": f"{summary.zones.height:,}", "rows of species": f"{summary.species.height:,}"}
    print_facts("zones of the map", facts | {"written": ", ".join(map(str, files))})
