"""The command line, to which the commands add themselves."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="releve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Which plants grow here? From plots, records and rasters, or an official release, to scored species lists.

Start with `releve demo`; with a folder of your own: `releve init FOLDER`, then `releve check study.toml` and
`releve run --data study.toml --out RUN`; or with a GeoPlant / GeoLifeCLEF release: `releve check RELEASE`, then
`releve run RECIPE --data RELEASE --out RUN`. Recipes are TOML files; see `recipes/`.""",
)
