"""What was found in a folder, told in the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from releve.discover.parts import Part
from releve.discover.rasters import RasterGroup
from releve.discover.study import Discovery

MAX_LEFT_OUT = 20


def told_lines(found: Discovery, out: Path) -> dict[str, list[str]]:
    """Return, by title, the lines on what was guessed, is to be given and was left out, and the next two commands."""
    left_out = [f"- {line}" for line in found.left_out_lines()]
    more = [f"- ... and {len(left_out) - MAX_LEFT_OUT} more, see the file"] if len(left_out) > MAX_LEFT_OUT else []
    lines = {
        "Guessed; the file says why, and what could be instead": [f"- {line}" for line in _guesses(found)],
        "To be given": [f"- {line}" for line in _to_give(found, out)],
        "Left out": left_out[:MAX_LEFT_OUT] + more,
        f"Wrote {out}. Next:": [f"  releve check {_quoted(out)}", f"  releve run --data {_quoted(out)} --out run"],
    }
    return {title: some for title, some in lines.items() if some}


def _quoted(path: Path) -> str:
    """Return a path as it is to be typed: in quotes if it has blanks or other letters that a shell reads."""
    return shlex.quote(str(path))


def found_table(found: Discovery) -> RichTable:
    """Return a line for each table and group of rasters: what it was taken as, and what is in it."""
    root = found.listing.root
    table = RichTable(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("file", "taken as", "what is in it"):
        table.add_column(name, no_wrap=True)
    for part in found.parts:
        called = f"{part.table.kind} (test)" if part.split == "test" else part.table.kind
        table.add_row(Text(_files(part.files, root)), called, Text(_contents(part)))
        if part.species_table is not None:
            name = _named(part.species_table.sample.path, root)
            table.add_row(Text(name), "species of plots", f"{part.species_table.num_species:,} species")
    for covariates in found.covariates:
        columns = f"{len(covariates.table.covariates)} columns"
        table.add_row(Text(_files(covariates.files, root)), "covariates", columns)
    for group in found.rasters:
        kind = {"layers": "rasters", "series": "series (offered)", "imagery": "patches (offered)"}[group.kind]
        name = f"{_named(group.files[0].parent / group.pattern, root)}" if group.pattern else _files(group.files, root)
        table.add_row(Text(name), kind, Text(f"{_layers(group)}, {_cells(group)}"))
    return table


def _contents(part: Part) -> str:
    table = part.table
    facts = [f"{'' if table.sample.is_whole else 'about '}{table.sample.num_rows:,} rows"]
    facts += [f"{table.num_plots:,} plots"] if table.kind == "plots" and table.num_plots else []
    facts += [f"{table.num_species:,} species"] if table.num_species else []
    facts += [f"{len(part.covariates)} covariates"] if part.covariates else []
    return ", ".join(facts)


def _layers(group: RasterGroup) -> str:
    names = [layer.name for layer in group.layers]
    classes = sum(bool(layer.why_classes) for layer in group.layers)
    said = f"{len(names)} layers" if len(names) > 1 else f"layer {names[0]}"
    return said + (f", {classes} of classes" if classes else "")


def _cells(group: RasterGroup) -> str:
    rows, columns = group.layers[0].shape
    return f"{columns:,} x {rows:,} cells of {abs(group.layers[0].transform[0]):.6g}, {group.crs or 'no projection'}"


def _guesses(found: Discovery) -> list[str]:
    lines = list(found.remarks)
    for part in found.parts:
        lines.append(f"{part.files[0].name}: {part.table.kind}, as {part.table.why}")
        if part.table.one_binomial:
            text = f"all {part.table.num_species} names are of {part.table.one_binomial} and are kept apart"
            lines.append(f"{part.files[0].name}: {text}; the file says how to take them as one")
        columns = part.table.columns()
        named = {role: f.column if isinstance(f.column, str) else " + ".join(f.column) for role, f in columns.items()}
        lines.append(f"{part.files[0].name}: " + ", ".join(f"{role} is {name}" for role, name in named.items()))
        if part.crs and part.why_crs:
            lines.append(f"{part.files[0].name}: {part.crs}, as {part.why_crs}")
    lines += [f"{Path(name).name}: {hint.crs}, as {hint.why}" for name, hint in found.projections.rasters.items()]
    lines += [f"units: {note}" for note in found.units]
    return lines


def _to_give(found: Discovery, out: Path) -> list[str]:
    if not found.projections.lacking:
        return []
    lines = [f"crs in {out.name}: no file says which projection {', '.join(found.projections.lacking)} are in"]
    lines += ["take away the # before the right one of the lines there"] if found.projections.hints else []
    return lines + [f"perhaps {hint.crs}: {hint.why}" for hint in found.projections.hints]


def _files(files: tuple[Path, ...], root: Path) -> str:
    names = [_named(file, root) for file in files]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _named(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
