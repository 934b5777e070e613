"""A study of one's own on disk: what its ``study.toml`` names, read as a release is."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from releve.config import explain, read_toml
from releve.errors import ConfigError, ReleaseError, TableError
from releve.files import files_below
from releve.ingest.community import Community, Listed, read_community, read_species
from releve.ingest.config import PlotsConfig, StudyConfig, TableConfig
from releve.ingest.layouts import CovariateLayout, Layout, Split
from releve.ingest.names import fold
from releve.ingest.release import Release, open_release
from releve.ingest.sheets import Sheet, ValueTable, with_cells
from releve.ingest.spellings import several_spellings
from releve.ingest.values import Values, read_values
from releve.progress import say

SPELLINGS = "species in several spellings, kept apart"
UNKNOWN_PLOT = "species of a plot that the table of plots lacks"
WORDS_OF = {
    "train": ("train", "training", "calibration", "fit", ""),
    "test": ("test", "testing", "evaluation", "validation", "heldout", "holdout"),
}
"""What a column may call the splits, as :func:`releve.ingest.names.fold` leaves it."""
NUM_EXAMPLES = 3
_IDS = r"^\d+(?:\.0+)?(?:[\s,;|]+\d+(?:\.0+)?)*$"
_SPLITS = {
    "train": Split("train", "", "", labelled=True),
    "test": Split("test", "", "", labelled=True),
    "po": Split("po", "", "", labelled=True, presence_only=True),
    "random": Split("random", "", "", labelled=False),
}
_BESIDE_SHAPES = (".dbf", ".shx", ".prj", ".cpg")


@dataclass(frozen=True)
class Study:
    """A study that was opened; its tables are read when they are first asked for, and kept."""

    path: Path
    """The study.toml."""
    config: StudyConfig

    @property
    def root(self) -> Path:
        """The folder that its files are named from."""
        return self.path.parent

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """``train`` and ``test``, of plots, ``po``, of records, and ``random``, of places, as far as there are any."""
        present = {split for split, _ in self.communities}
        return tuple(name for name in _SPLITS if name in present)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read, sorted."""
        named = [table.file for table in (*self.config.plots, *self.config.records, *self.config.random_places)]
        named += [table.file for table in self.config.covariates]
        named += [plots.species_table.file for plots in self.config.plots if plots.species_table is not None]
        files = {file for name in named for file in self.files_of(name)}
        files |= {file.with_suffix(end) for file in files if file.suffix.lower() == ".shp" for end in _BESIDE_SHAPES}
        return tuple(sorted(file for file in files if file.is_file()))

    @cached_property
    def rules(self) -> Layout:
        """The study as a layout; its extent is that of its places."""
        title = self.config.title or f"the study {self.path.name}"
        return Layout("study", title, tuple(_SPLITS.values()), {}, self.values.groups, extent=None)

    @property
    def description(self) -> str:
        """What is read beside files, as text: what study.toml says of them."""
        return self.config.model_dump_json(exclude={"title", "citation"})

    @property
    def classes(self) -> dict[str, dict[int, str]]:
        """Names of classes by covariate and code, where they have names."""
        return self.values.classes

    def split_rules(self, split: str) -> Split:
        """Return what a split is.

        Raises
        ------
        ReleaseError
            If the study has no such split.
        """
        if split not in self.splits:
            raise ReleaseError(f"{self.path} has no split {split!r}", expected=f"one of {list(self.splits)}")
        return _SPLITS[split]

    def sheets(self, split: str) -> list[Sheet]:
        """Return the tables of a split's plots or records, their species as ids."""
        found = []
        for community, spellings in zip(self.communities, self._spellings, strict=True):
            if community[0] == split:
                found.append(_as_sheet(community[1], spellings, self.species))
        return found

    def label_tables(self, split: str) -> list[str]:
        """Return no paths: species are in the tables of plots, or were joined to them."""
        return []

    def value_tables(self, split: str, group: CovariateLayout) -> Iterator[ValueTable]:
        """Yield the tables of a group's covariates, classes as codes."""
        yield from self.values.tables_of(split, group.group)

    def tables_read(self, splits: Sequence[str], *, covariates: bool) -> set[str]:
        """Return the paths of all tables: species are numbered over all of them."""
        return {self.origin(file) for file in self.files}

    def origin(self, file: Path) -> str:
        """Return what a file is called in messages: its path from the root."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.as_posix()

    def files_of(self, named: str | Sequence[str]) -> list[Path]:
        """Return the files of a name, a pattern such as ``plots/*.csv``, or several, in the order named.

        Raises
        ------
        TableError
            If one is that of no file; it names those that are called most alike.
        """
        found: dict[Path, None] = {}
        for name in (named,) if isinstance(named, str) else named:
            files = find_files(self.root, name)
            if not files:
                raise _no_file(self.path, name)
            found |= dict.fromkeys(files)
        return list(found)

    @cached_property
    def communities(self) -> list[tuple[str, Community]]:
        """Every table of plots, records or random places, with its split."""
        plots = [(table, self._plots(table)) for table in self.config.plots]
        apart = iter(_told_apart([community for _, parts in plots for community in parts]))
        found = [part for table, parts in plots for _ in parts for part in _by_split(next(apart), table)]
        records = [(table, file) for table in self.config.records for file in self.files_of(table.file)]
        for table, file in records:
            found.append(("po", self._read(file, table, is_plots=False, is_one_of_several=len(records) > 1)))
        random = [(table, file) for table in self.config.random_places for file in self.files_of(table.file)]
        for table, file in random:
            several = len(random) > 1
            read = self._read(file, table, is_plots=False, is_one_of_several=several, has_species=False)
            found.append(("random", read))
        return found

    @cached_property
    def species(self) -> pl.DataFrame | None:
        """``species_id`` and ``name`` of all species, numbered from 1 by their names; None if all are numbers."""
        names = pl.concat([community.text.cells["species"] for _, community in self.communities]).unique()
        names = names.drop_nulls().sort()
        if names.str.contains(_IDS).all():
            return None
        return names.rename("name").to_frame().with_row_index("species_id", 1).cast({"species_id": pl.Int64})

    @cached_property
    def values(self) -> Values:
        """Covariates in tables."""
        return read_values(self)

    def _plots(self, table: PlotsConfig) -> list[Community]:
        """Return the tables of plots of a section, joined with their table of species."""
        num_files = sum(len(self.files_of(plots.file)) for plots in self.config.plots)
        species = None
        if table.species_table is not None:
            files = [(file, self.origin(file)) for file in self.files_of(table.species_table.file)]
            species = read_species(files, table.species_table, table.least_abundance)
        found = [
            self._read(file, table, is_plots=True, is_one_of_several=num_files > 1, species=species)
            for file in self.files_of(table.file)
        ]
        if species is not None:
            known = pl.concat([community.text.cells.select("survey_id") for community in found])
            unknown = species.table.join(known, on="survey_id", how="anti")
            found[0].mended.add(species.mended.counts, species.mended.examples)
            found[0].mended.note(UNKNOWN_PLOT, unknown.unique("survey_id", maintain_order=True), "survey_id")
        return found

    def _read(
        self,
        file: Path,
        table: TableConfig,
        *,
        is_plots: bool,
        is_one_of_several: bool,
        species: Listed | None = None,
        has_species: bool = True,
    ) -> Community:
        return read_community(
            file,
            self.origin(file),
            table,
            is_plots=is_plots,
            crs=self.config.crs,
            is_one_of_several=is_one_of_several,
            species=species,
            has_species=has_species,
        )

    @cached_property
    def _spellings(self) -> list[list[tuple[str, ...]]]:
        """For each table, the groups of spellings of likely one species that it is the first to have one of."""
        if self.species is None:
            return [[] for _ in self.communities]
        groups = several_spellings(self.species["name"])
        told: list[list[tuple[str, ...]]] = []
        for _, community in self.communities:
            names = set(community.text.cells["species"].unique())
            told.append([group for group in groups if not names.isdisjoint(group)])
            groups = [group for group in groups if names.isdisjoint(group)]
        if several := [group for groups in told for group in groups]:
            some = "; ".join(" / ".join(map(repr, group)) for group in several[:NUM_EXAMPLES])
            say(
                f"{len(several)} species have several spellings, and are kept apart: {some}"
                f"{'; ...' if len(several) > NUM_EXAMPLES else ''}. Give one name to what is one species"
            )
        return told


Source = Release | Study
"""What surveys, records and covariates are read from."""


def open_source(path: Path) -> Source:
    """Return the study of a ``study.toml``, or the official release that lies in a folder.

    Raises
    ------
    ReleveError
        If there is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".toml":
        return load_study(path)
    return load_study(path / "study.toml") if (path / "study.toml").is_file() else open_release(path)


def load_study(path: Path) -> Study:
    """Return the study that a TOML file describes in its section ``[study]``; other sections are a recipe's.

    Raises
    ------
    ConfigError
        If the file is missing or is no TOML, has no such section, a key is unknown, or a value is impossible.
    """
    path = Path(path)
    content = read_toml(path, what="study").get("study")
    if content is None:
        raise ConfigError(
            f"{path} has no section [study]",
            expected="a study, with tables [[study.plots]] or [[study.records]]",
            action="Make one with releve init FOLDER",
        )
    try:
        return Study(path, StudyConfig.model_validate(content))
    except ValidationError as error:
        problems = [explain(item, StudyConfig) for item in error.errors()]
        raise ConfigError(f"{path}, section [study]: " + "; ".join(problems)) from error


def find_files(root: Path, name: str) -> list[Path]:
    """Return the file of a name, or those of a pattern such as ``plots/*.csv``, sorted.

    A file that is there is no pattern, whatever its letters; letters with accents are compared as one sees them.
    """
    path = root / name
    if path.exists():
        return [path]
    if (alike := _looking_alike(path)) is not None:
        return [alike]
    if not any(sign in name for sign in "*?["):
        return []
    anchor = Path(path.anchor) if Path(name).is_absolute() else root
    return sorted(file for file in anchor.glob(str(path.relative_to(anchor))) if not file.name.startswith("."))


def _looking_alike(path: Path) -> Path | None:
    """Return the path that looks the same, its accents being letters of their own or not; None if there is none."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        wanted = unicodedata.normalize("NFC", part)
        there = [found / part] if (found / part).exists() else found.iterdir() if found.is_dir() else []
        alike = next((each for each in there if unicodedata.normalize("NFC", each.name) == wanted), None)
        if alike is None:
            return None
        found = alike
    return found


def _no_file(study: Path, name: str) -> TableError:
    there = {file.name: file.relative_to(study.parent).as_posix() for file in files_below(study.parent)}
    close = [there[near] for near in difflib.get_close_matches(Path(name).name, there, n=3)]
    return TableError(
        f"{study} names {name!r}, and there is no such file",
        expected=f"a file, named from {study.parent}",
        action=f"Did you mean {' or '.join(map(repr, close))}?" if close else "Correct the name",
    )


def _by_split(community: Community, table: PlotsConfig) -> list[tuple[str, Community]]:
    """Return a table with its split, or the two parts of one whose column tells."""
    cells = community.text.cells
    if "split" not in cells.columns:
        return [(table.split, community)]
    told = {word: fold(word or "") for word in cells["split"].unique()}
    strange = sorted(str(word) for word, folded in told.items() if not any(folded in w for w in WORDS_OF.values()))
    if strange:
        raise TableError(
            f"{community.origin}: column {community.called['split']!r} holds {strange[:NUM_EXAMPLES]}",
            expected="train or test in each row",
        )
    found = []
    for split, words in WORDS_OF.items():
        here = cells["split"].is_in([word for word, folded in told.items() if folded in words], nulls_equal=True)
        if here.any():
            text = with_cells(community.text, cells.filter(here).drop("split"), community.text.rows.filter(here))
            found.append((split, replace(community, text=text)))
    return found


def _told_apart(plots: list[Community]) -> list[Community]:
    """Return tables of plots, with the file's name before the ids where those of several are at other places."""
    if len(plots) < 2:
        return plots
    named = [
        part.text.cells.select("survey_id", pl.col("lon", "lat").cast(pl.String), file=pl.lit(at)).unique("survey_id")
        for at, part in enumerate(plots)
    ]
    places = (
        pl.concat(named)
        .drop_nulls("survey_id")
        .with_columns(
            *(pl.coalesce(pl.col(axis).cast(pl.Float64, strict=False).cast(pl.String), axis) for axis in ("lon", "lat"))
        )
    )
    apart = places.group_by("survey_id").agg(pl.struct("lon", "lat").n_unique()).filter(pl.col("lon") > 1)
    if not len(apart):
        return plots
    say(
        f"{len(apart)} plot ids are in several files at different places, such as {apart['survey_id'].sort()[0]!r}: "
        "each file's name is put before its ids"
    )
    named_apart = []
    for part in plots:
        label = pl.concat_str(pl.lit(Path(part.origin).stem), "survey_id", separator=" ")
        text = with_cells(part.text, part.text.cells.with_columns(label.alias("survey_id")))
        values = with_cells(part.values, part.values.cells.with_columns(label.alias("survey_id")))
        named_apart.append(replace(part, text=text, values=values))
    return named_apart


def _as_sheet(community: Community, spellings: list[tuple[str, ...]], species: pl.DataFrame | None) -> Sheet:
    """Return a table with the ids of its species in place of their names."""
    text = community.text
    cells = text.cells.rename({"species": "species_id"})
    if species is not None:
        ids = dict(zip(species["name"], species["species_id"].cast(pl.String), strict=True))
        cells = cells.with_columns(pl.col("species_id").replace_strict(ids, default=None, return_dtype=pl.String))
    noted = text.noted | community.mended.counts
    examples = text.examples | community.mended.examples
    if spellings:
        noted |= {SPELLINGS: len(spellings)}
        examples |= {SPELLINGS: tuple(" / ".join(group) for group in spellings[:NUM_EXAMPLES])}
    columns = {name: name for name in cells.columns}
    called = columns | dict(community.called) | {"species_id": community.called.get("species", "species")}
    text = replace(with_cells(text, cells), noted=noted, examples=examples)
    return Sheet(community.origin, text, columns, called, community.crs)
