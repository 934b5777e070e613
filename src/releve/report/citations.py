"""The works to cite for a run: the data that it used, and the methods; as BibTeX and as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from releve.report.facts import Facts

ENTRIES = Path(__file__).with_name("works.bib")
OFFICIAL = ("glc23", "glc24", "glc25", "glc25-sample", "geoplant26")
"""Layouts of GeoPlant and GeoLifeCLEF; only for these the sources of predictors are known."""


@dataclass(frozen=True)
class Work:
    """A work to cite.

    Parameters
    ----------
    key, kind
        Of its BibTeX entry.
    fields
        Of its BibTeX entry; ``note`` says what the author must fill in.
    """

    key: str
    kind: str
    fields: dict[str, str]

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    @property
    def text(self) -> str:
        """The reference in words."""
        fields = {name: re.sub(r"[{}]", "", value) for name, value in self.fields.items()}
        names = [_family_last(name) for name in fields["author"].split(" and ")]
        authors = ", ".join(names[:3]) + (" et al." if len(names) > 3 or names[-1] == "others" else "")
        where = fields.get("journal") or fields.get("booktitle") or fields.get("publisher", "")
        where += f", {fields['series']}" if "series" in fields else ""
        where += f" {fields['volume']}" if "volume" in fields else ""
        where += f", {fields['pages'].replace('--', '–')}" if "pages" in fields else ""
        doi = f"doi:{fields['doi']}" if "doi" in fields else ""
        eprint = f"arXiv:{fields['eprint']}" if "eprint" in fields else ""
        year = f" ({fields['year']})" if "year" in fields else ""
        parts = [
            f"{authors.replace(', others', '')}{year}",
            fields["title"],
            where,
            doi or eprint,
            fields.get("note", ""),
        ]
        return ". ".join(part.rstrip(".") for part in parts if part) + "."


def list_works(facts: Facts, *kinds: str) -> list[Work]:
    """Return the works that a run asks to cite: by default all, or those for some of the kinds of ``WORKS``."""
    entries = read_entries()
    return [
        entries[key]
        for kind, works in WORKS.items()
        for key, applies in works.items()
        if kind in (kinds or WORKS) and applies(facts)
    ]


def write_bibtex(works: list[Work]) -> str:
    """Return works as a BibTeX file."""
    return "\n\n".join(work.bibtex for work in works) + "\n"


def read_entries() -> dict[str, Work]:
    """Return the works that any run may ask to cite, by key; each field has a line of its own."""
    works = {}
    for block in ENTRIES.read_text(encoding="utf-8").strip().split("\n\n"):
        kind, key = block.partition(",")[0].removeprefix("@").split("{")
        works[key] = Work(key, kind, dict(re.findall(r"^  (\w+) = \{(.*)\},$", block, re.MULTILINE)))
    return works


def _family_last(name: str) -> str:
    """Return a BibTeX name as initials and family name.

    Examples
    --------
    >>> _family_last("Zurell, Damaris"), _family_last("GBIF.org")
    ('D. Zurell', 'GBIF.org')
    """
    family, _, given = name.partition(", ")
    return " ".join([*(f"{part[0]}." for part in given.split()), family])


def _official(facts: Facts) -> bool:
    return facts.manifest.release in OFFICIAL


def _release(*names: str) -> Callable[[Facts], bool]:
    return lambda facts: facts.manifest.release in names


def _group(name: str) -> Callable[[Facts], bool]:
    return lambda facts: _official(facts) and name in facts.covariate_groups


def _modality(name: str) -> Callable[[Facts], bool]:
    return lambda facts: _official(facts) and facts.uses(name)


def _records(facts: Facts) -> bool:
    return _official(facts) and facts.num_pseudoplots > 0


def _plantnet(facts: Facts) -> bool:
    if not _records(facts) or facts.with_records is None:
        return False
    surveys = facts.with_records.store.surveys
    names = surveys["publisher"].drop_nulls().unique().to_list() if "publisher" in surveys.columns else []
    return any(re.search(r"pl@?a?ntnet", str(name), re.IGNORECASE) for name in names)


def _resnet(facts: Facts) -> bool:
    return any(part.uses("patch") and part.config.model.patch_backbone.startswith("resnet") for part in facts.trained)


def _expected_f1(facts: Facts) -> bool:
    return str(facts.decision.get("rule", "")).startswith("expected_f1")


WORKS: dict[str, dict[str, Callable[[Facts], bool]]] = {
    "records": {
        "picek2024geoplant": _release("glc24", "glc25", "glc25-sample", "geoplant26"),
        "botella2023geolifeclef": _release("glc23"),
        "picek2024geolifeclef": _release("glc24"),
        "picek2025geolifeclef": _release("glc25", "glc25-sample"),
        "gbif": _records,
        "affouard2023plantnet": _plantnet,
    },
    "predictors": {
        "karger2017climatologies": lambda facts: _group("bioclim")(facts) or _modality("climate")(facts),
        "poggio2021soilgrids": _group("soil"),
        "venter2016footprint": _group("human_footprint"),
        "aster_gdem": _group("elevation"),
        "modis_mcd12q1": _group("landcover"),
        "witjes2023ecodatacube": _modality("landsat"),
        "drusch2012sentinel": _modality("patch"),
    },
    "methods": {
        "geurts2006trees": lambda facts: facts.num_members["forest"] > 0,
        "friedman2001boosting": lambda facts: facts.num_members["booster"] > 0,
        "iosipoi2022sketchboost": lambda facts: facts.num_members["booster"] > 0,
        "he2016resnet": _resnet,
        "ye2012f": _expected_f1,
        "dembczynski2013f": _expected_f1,
        "zurell2020odmap": lambda facts: True,
        "mitchell2019cards": lambda facts: True,
    },
}
"""By what they stand for, the keys of works, and whether a run used them."""
