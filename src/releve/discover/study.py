"""A folder looked through: plots, records, covariates and rasters that belong together, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from releve.discover.archives import tell_archive
from releve.discover.beside import Projections, covariate_layers, give_projections, share_with_rasters
from releve.discover.listing import DOCUMENT, Listing, list_folder
from releve.discover.parts import CovariateFiles, Part, find_tables
from releve.discover.rasters import RasterGroup, look_at_rasters
from releve.discover.tables import LeftOut
from releve.discover.units import UnitNote
from releve.errors import ReleaseError, TableError
from releve.ingest.release import open_release

NUM_TOLD = 5


@dataclass(frozen=True)
class Discovery:
    """What a folder holds."""

    listing: Listing
    title: str
    parts: tuple[Part, ...]
    """Plots, then records."""
    covariates: tuple[CovariateFiles, ...]
    rasters: tuple[RasterGroup, ...]
    projections: Projections
    units: tuple[UnitNote, ...]
    left_out: tuple[tuple[Path, str], ...]
    remarks: tuple[str, ...]

    def left_out_lines(self) -> list[str]:
        """Return a line for each file that is left out and why, or for many of one ending in one folder."""
        root = self.listing.root
        groups: dict[tuple[Path, str, str], list[Path]] = {}
        for path, why in self.left_out:
            groups.setdefault((path.parent, path.suffix, why), []).append(path)
        lines = []
        for (parent, suffix, why), paths in groups.items():
            names = [f"{path.relative_to(root).as_posix()}: {why}" for path in paths]
            several = f"{(parent / f'*{suffix}').relative_to(root).as_posix()} ({len(paths)} files): {why}"
            lines += names if len(paths) <= 2 else [several]
        return lines


def look_through(folder: Path) -> Discovery:
    """Return what a folder holds: plots, records, covariates, rasters, how they belong together, and what is left out.

    Nothing is written. Of large tables some thousand rows are looked at, of rasters the headers and every n-th cell.

    Raises
    ------
    TableError
        If there is no such folder, it is that of an official release, or neither plots nor records are in it; the
        message tells what was there.
    """
    folder = Path(folder)
    listing = list_folder(folder)
    _refuse_release(folder)
    left_out: LeftOut = list(listing.left_out)
    remarks: list[str] = []
    parts, covariates = find_tables(listing.tables, folder, left_out, remarks)
    groups, unread = look_at_rasters(listing.rasters)
    left_out += [*unread, *((path, tell_archive(path)) for path in listing.archives)]
    if not parts:
        raise TableError(
            f"{folder} holds neither plots nor records: {_told(left_out, groups)}",
            expected="a table with species and coordinates, or with presence or absence of one species",
            action="Look at releve init --help, or write study.toml by hand",
        )
    groups = covariate_layers(groups, parts, folder, left_out)
    texts = [*listing.documents, *(path for path, _ in left_out if path.suffix == ".txt" and path.is_file())]
    projections = give_projections(parts, groups, texts)
    parts, units = share_with_rasters(projections.parts, groups, projections.rasters, remarks)
    return Discovery(
        listing=listing,
        title=folder.resolve().name,
        parts=tuple(sorted(parts, key=lambda part: part.table.kind != "plots")),
        covariates=tuple(covariates),
        rasters=tuple(groups),
        projections=projections,
        units=tuple(units),
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _refuse_release(folder: Path) -> None:
    """Raise if a folder is an official release, which needs no description."""
    try:
        release = open_release(folder)
    except ReleaseError:
        return
    raise TableError(
        f"{folder} is an official release, {release.rules.title}",
        expected="the folder of a study of your own",
        action=f"A release needs no study.toml: releve check {folder}",
    )


def _told(left_out: Sequence[tuple[Path, str]], groups: Sequence[RasterGroup]) -> str:
    """Return what was there instead of plots and records."""
    first = sorted(left_out, key=lambda item: item[1] == DOCUMENT)
    said = [f"{path.name}: {why}" for path, why in first[:NUM_TOLD]]
    num_rasters = sum(len(group.files) for group in groups)
    said += [f"{num_rasters} rasters"] if num_rasters else []
    return "; ".join(said) + ("; ..." if len(left_out) > NUM_TOLD else "") if said else "it is empty"
