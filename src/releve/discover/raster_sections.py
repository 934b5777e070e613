"""The rasters of a folder as sections of a study.toml: layers, and series, patches and units as offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from releve.discover.rasters import RasterGroup, RasterLayer
from releve.discover.study import Discovery
from releve.discover.toml import comment, relative, setting, some_names
from releve.discover.units import UnitNote


def raster_lines(group: RasterGroup, found: Discovery, folder: Path, twice: set[str]) -> list[str]:
    """Return the lines on rasters of one folder and grid.

    Parameters
    ----------
    group
        The rasters.
    found
        What else is in the folder: projections, units.
    folder
        That of the study.toml.
    twice
        Names that several layers have.
    """
    match group.kind:
        case "layers":
            return _layer_lines(group, found, folder, twice)
        case "series":
            return _series_lines(group, folder)
        case "imagery":
            return _imagery_lines(group, folder)
        case _:
            raise AssertionError(group.kind)


def _files_value(group: RasterGroup, folder: Path) -> str | list[str]:
    if group.pattern:
        parent = relative(group.files[0].parent, folder)
        return group.pattern if parent == "." else f"{parent}/{group.pattern}"
    names = list(dict.fromkeys(_file_of(layer, folder) for layer in group.layers))
    return names[0] if len(names) == 1 else names


def _file_of(layer: RasterLayer, folder: Path) -> str:
    """Return how a raster is named from the folder of the study: a file, or a variable inside one."""
    name = relative(layer.file, folder)
    return f'{layer.driver}:"{name}":{layer.variable}' if layer.variable else name


def _layer_lines(group: RasterGroup, found: Discovery, folder: Path, twice: set[str]) -> list[str]:
    layers = group.layers
    rows, columns = layers[0].shape
    size = abs(layers[0].transform[0])
    names = some_names([layer.name for layer in layers])
    what = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    text = f"{what} of {columns:,} x {rows:,} cells of {size:.6g}, {group.crs or 'no projection named'}: {names}."
    lines = ["", "[[study.rasters]]", *comment(text), *setting("file", _files_value(group, folder))]
    if len(group.files) == 1 and [layer.band for layer in layers] != list(range(1, layers[0].num_bands + 1)):
        lines += setting("bands", [layer.band for layer in layers])
    hint = found.projections.rasters.get(str(group.files[0]))
    lines += setting("crs", hint.crs, hint.why) if hint else []
    if any(layer.name in twice for layer in layers):
        prefix = group.files[0].parent.name
        why = "other rasters have layers of the same names"
        lines += setting("names", [f"{prefix}_{layer.name}" for layer in layers], why)
    lines += _class_lines(layers)
    lines += _unit_lines(_units_of(group, found), group, folder)
    return lines + (_elevation_lines(layers[0]) if len(layers) == 1 and layers[0].is_elevation else [])


def _class_lines(layers: Sequence[RasterLayer]) -> list[str]:
    classes = [layer for layer in layers if layer.why_classes]
    if any(layer.why_classes is None for layer in layers):
        return comment("Too many to look at each: classes are found when they are read.")
    if not classes:
        return setting("categorical", False, 'no layer looks like classes; name those that are: ["soil"]')
    by_reason: dict[str, list[str]] = {}
    for layer in classes:
        by_reason.setdefault(layer.why_classes or "", []).append(layer.name)
    why = "; ".join(f"{some_names(names)}: {reason}" for reason, names in by_reason.items())
    return setting("categorical", True if len(classes) == len(layers) else [layer.name for layer in classes], why)


def _units_of(group: RasterGroup, found: Discovery) -> list[UnitNote]:
    bands = {(layer.path, layer.band) for layer in group.layers}
    return [note for note in found.units if (note.layer.source, note.layer.band) in bands]


def _unit_lines(notes: Sequence[UnitNote], group: RasterGroup, folder: Path) -> list[str]:
    """Return what would bring layers into the unit of a table: settings of the entry, or an entry of their own."""
    lines: list[str] = []
    by_change: dict[tuple[str, float, float], list[UnitNote]] = {}
    for note in notes:
        by_change.setdefault((note.conversion, note.scale, note.offset), []).append(note)
    for (conversion, scale, offset), alike in by_change.items():
        names = list(dict.fromkeys(note.layer.name for note in alike))
        layers = [layer for layer in group.layers if layer.name in names]
        verb = "is" if len(layers) == 1 else "are"
        told = (
            f"UNITS: {some_names(names)} {conversion} {verb} what {alike[0].table} has under this name at its places."
        )
        lines += comment(told)
        if len(layers) < len(group.layers):
            lines += [*comment("In the unit of the table they would be an entry of their own:"), "# [[study.rasters]]"]
            paths = list(dict.fromkeys(_file_of(layer, folder) for layer in layers))
            lines += setting("file", paths[0] if len(paths) == 1 else paths, offered=True)
            if len(group.files) == 1:
                lines += setting("bands", [layer.band for layer in layers], offered=True)
        lines += setting("scale", float(scale), offered=True) if scale != layers[0].scale else []
        lines += setting("offset", float(offset), offered=True) if offset != layers[0].offset else []
    return lines


def _elevation_lines(layer: RasterLayer) -> list[str]:
    lines = comment(f"{layer.name} is an elevation; to have slope and the like worked out from it:")
    return lines + setting("derive", ["slope", "northness", "eastness", "roughness"], offered=True)


def _series_lines(group: RasterGroup, folder: Path) -> list[str]:
    parent = relative(group.files[0].parent, folder)
    template = group.template if parent == "." else f"{parent}/{group.template}"
    modality = "landsat" if group.seasons <= 4 else "climate"
    first, last = group.years
    text = f"{len(group.files)} dated rasters, {first} to {last}: a time series, not layers."
    text += " To learn from it, take away the #:"
    lines = ["", *comment(text), "# [[study.series]]"]
    for key, value in {
        "modality": modality,
        "file": template,
        "channels": list(group.channels),
        "first_year": first,
        "last_year": last,
    }.items():
        lines += setting(key, value, offered=True)
    return lines


def _imagery_lines(group: RasterGroup, folder: Path) -> list[str]:
    names = [layer.name for layer in group.layers]
    text = f"{group.files[0].name} is a picture ({', '.join(names)}). To learn from patches of it, take away the #:"
    return [
        "",
        *comment(text),
        "# [study.patches]",
        *setting("file", relative(group.files[0], folder), offered=True),
        *setting("names", names, offered=True),
        *setting("size_m", 1280.0, offered=True),
    ]
