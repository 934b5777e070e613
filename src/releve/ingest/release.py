"""An official release on disk: which one it is, which splits it holds and where their files are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from releve.errors import ReleaseError
from releve.ingest.files import Tree, scan_tree
from releve.ingest.ids import clean_ids
from releve.ingest.layouts import LAYOUTS, CovariateLayout, Layout, Split
from releve.ingest.names import find_column, normalise
from releve.ingest.sheets import REQUIRED, Sheet, ValueTable, with_cells
from releve.ingest.text import key_column, read_header, read_text_table


@dataclass(frozen=True)
class Release:
    """A release that was recognised; reading its tables comes later."""

    root: Path
    layout: str
    splits: tuple[str, ...]
    """The splits that are present, in the layout's order."""
    files: tuple[Path, ...]
    """Every table that a reader uses: metadata, covariates and series."""
    tree: Tree

    @property
    def classes(self) -> dict[str, dict[int, str]]:
        """Names of classes, by covariate: a release has codes only."""
        return {}

    @property
    def species(self) -> None:
        """No names of species: a release has numbers."""
        return None

    @property
    def description(self) -> str:
        """What is read beside files, as text: nothing."""
        return ""

    @property
    def rules(self) -> Layout:
        """The layout's row of data."""
        return LAYOUTS[self.layout]

    def split_rules(self, split: str) -> Split:
        """Return a split's row of data.

        Raises
        ------
        ReleaseError
            If the release has no such split.
        """
        if split not in self.splits:
            raise ReleaseError(f"{self.root} has no split {split!r}", expected=f"one of {list(self.splits)}")
        return next(rules for rules in self.rules.splits if rules.name == split)

    def pattern(self, split: str, template: str, **names: str) -> str:
        """Return the pattern of a split's files."""
        for name, value in {"split": self.split_rules(split).token, **names}.items():
            template = template.replace("{" + name + "}", value)
        return template

    def tables(self, split: str, template: str, **names: str) -> list[str]:
        """Return the paths, relative to the root, of a split's tables, the preferred one first."""
        return self.tree.tables_like(self.pattern(split, template, **names))

    def label_tables(self, split: str) -> list[str]:
        """Return the paths of the tables of a split's species, where these are not in the table of surveys."""
        rules = self.split_rules(split)
        return self.tables(split, rules.labels) if rules.labels else []

    def sheets(self, split: str) -> list[Sheet]:
        """Return the table of a split's surveys, with the columns that form a survey as they are.

        Raises
        ------
        ReleaseError
            If it cannot be read or lacks a column.
        """
        rules, layout = self.split_rules(split), self.rules
        path = self.tables(split, rules.metadata)[0]
        header = read_header(self.root / path, error=ReleaseError)
        found = {role: find_column(header, names) for role, names in layout.columns.items()}
        required = [*REQUIRED, *(["species_id"] if rules.labelled else []), *(["subset"] if rules.subset else [])]
        lacking = [layout.columns[role][0] for role in required if found.get(role) is None]
        if lacking:
            raise ReleaseError(f"{path} lacks columns {lacking}; it has {header}", action="Use the official table")
        columns = {role: name for role, name in found.items() if name is not None}
        same = [find_column(header, [name]) for name in rules.same_survey]
        if all(same):
            columns |= {f"same_{i}": str(name) for i, name in enumerate(same)}
        text = read_text_table(self.root / path, columns.values(), error=ReleaseError)
        return [Sheet(path, text, columns, columns)]

    def value_tables(self, split: str, group: CovariateLayout) -> Iterator[ValueTable]:
        """Yield the tables of a group's covariates.

        Tables with the same columns in the same folder are parts of one; of those in other folders (older versions)
        the preferred one is used.

        Raises
        ------
        ReleaseError
            If a table cannot be read, or has no column of survey ids.
        """
        folders: dict[tuple[str, ...], str] = {}
        for path in self.tables(split, group.table):
            full, folder = self.root / path, path.rpartition("/")[0]
            header = read_header(full, error=ReleaseError)
            names = tuple(name for name in header if group.range_of(name) is not None)
            if not names or folders.setdefault(names, folder) != folder:
                continue
            key = key_column(full, self.rules.columns["survey_id"])
            text = read_text_table(full, (key, *names), error=ReleaseError)
            text = with_cells(text, text.cells.with_columns(clean_ids(text.cells[key])))
            yield ValueTable(path, key, names, text)

    def tables_read(self, splits: Sequence[str], *, covariates: bool) -> set[str]:
        """Return the paths of the tables that the surveys of some splits, and if asked their covariates, are in."""
        found: set[str] = set()
        for split in splits:
            rules = self.split_rules(split)
            templates = [rules.metadata, rules.labels]
            templates += [group.table for group in self.rules.covariates] if covariates else []
            for template in filter(None, templates):
                found.update(self.tables(split, template))
        return found


def open_release(path: Path) -> Release:
    """Return the official release that lies in a folder.

    Raises
    ------
    ReleaseError
        If there is no such folder, or it holds none or several of the known releases.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ReleaseError(f"{root} {what}", expected="the folder of a release", action="Check the path")
    tree = scan_tree(root)
    present = {name: _splits_present(root, tree, layout) for name, layout in LAYOUTS.items()}
    known = [name for name, splits in present.items() if splits]
    if not known:
        raise _unknown_release(root, tree)
    if len(known) > 1:
        titles = [LAYOUTS[name].title for name in known]
        raise ReleaseError(
            f"{root} holds several releases: {titles}",
            expected="one",
            action="Give the folder of one of them",
        )
    release = Release(root, known[0], present[known[0]], (), tree)
    return Release(root, known[0], present[known[0]], _used_tables(release), tree)


def _splits_present(root: Path, tree: Tree, layout: Layout) -> tuple[str, ...]:
    return tuple(split.name for split in layout.splits if _is_present(root, tree, layout, split))


def _is_present(root: Path, tree: Tree, layout: Layout, split: Split) -> bool:
    tables = tree.tables_like(split.metadata)
    if not tables or not split.subset:
        return bool(tables)
    return find_column(read_header(root / tables[0], error=ReleaseError), layout.columns["subset"]) is not None


def _used_tables(release: Release) -> tuple[Path, ...]:
    used: set[str] = set()
    for split in release.splits:
        rules = release.split_rules(split)
        templates = [rules.metadata, rules.labels] + [group.table for group in release.rules.covariates]
        for series in release.rules.series:
            templates += [series.table.replace("{channel}", channel) for channel in series.channel_names]
        for template in filter(None, templates):
            used.update(release.tables(split, template))
    return tuple(release.root / path for path in sorted(used))


def _unknown_release(root: Path, tree: Tree) -> ReleaseError:
    wanted = [readable(split.metadata) for layout in LAYOUTS.values() for split in layout.splits]
    zips = f"; zipped parts, to be unpacked first: {list(tree.zips[:5])}" if tree.zips else ""
    return ReleaseError(
        f"{root} is not a known release; its tables are {list(tree.tables[:10]) or 'none'}{zips}",
        expected=f"one of the tables {sorted(set(wanted))} (any letter case, - or _)",
        action="Give the folder that holds the official files",
    )


def readable(pattern: str) -> str:
    r"""Return a pattern as a file name for messages.

    Examples
    --------
    >>> readable(r"(^|/)glc24-pa-metadata-train\.csv$")
    'glc24-pa-metadata-train.csv'
    """
    pattern = re.sub(r"\(\^\|\[?/-?\]?\)|\([^()]*\)\?|\(\?[=!<][^()]*(\([^()]*\)[^()]*)*\)|[\^$\\]", "", pattern)
    return normalise(pattern.replace("(", "").replace(")", ""))
