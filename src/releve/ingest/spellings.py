"""Names of species as they are written: mended where nobody can doubt it, compared where one can."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import polars as pl

_RANKS = {"ssp": "subsp", "f": "forma", "fo": "forma", "aggr": "agg"}
"""Abbreviations of ranks by what else they are written as."""
_BEFORE_EPITHET = ("subsp", "var", "forma", "subvar", "cf", "aff", "cv")
"""Words before an epithet; which rank it has, people write in many ways or not at all."""
_KEPT = ("cf", "aff", "agg")
"""Words that make it another species."""
_NO_EPITHET = ("ex", "et", "de", "del", "da", "van", "von", "in", "and", "auct", "non", "sp", "spp", "spec", "agg")


def clean_names(names: pl.Series) -> pl.Series:
    r"""Return names without blanks at their ends and with single ones between words, whatever kind of blank it is.

    Examples
    --------
    >>> clean_names(pl.Series(["Poa  annua ", "Poa\u00a0annua", None])).to_list()
    ['Poa annua', 'Poa annua', None]
    """
    blanks = names.str.contains(r"\s\s|^\s|\s$|[^\S ]")
    if not blanks.any():
        return names
    return names.str.replace_all(r"\s+", " ").str.strip_chars()


def several_spellings(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that are likely one species, spelt in several ways.

    They differ in case, in blanks, hyphens or accents, in how a hybrid is marked (``×``, ``x``), or in whether and how
    the author is named.

    Examples
    --------
    >>> several_spellings(["Poa annua L.", "Poa annua", "Mentha x piperita", "Mentha × piperita", "Poa pratensis"])
    [('Mentha x piperita', 'Mentha × piperita'), ('Poa annua', 'Poa annua L.')]
    >>> several_spellings(["Solanum acaule", "Solanum acaule f. acaule", "QUERCUS ROBUR", "Quercus robur L."])
    [('QUERCUS ROBUR', 'Quercus robur L.')]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(spelling_key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def spelling_key(name: str) -> str:
    """Return genus and epithets of a name in small letters: what its spellings have in common.

    Examples
    --------
    >>> spelling_key("Quercus ×hispanica Lam."), spelling_key("Poa annua ssp. varia (Gaudin) Arcang.")
    ('quercus hispanica', 'poa annua varia')
    """
    letters = unicodedata.normalize("NFKD", name.replace("×", " x ").replace("_", " "))
    words = "".join(letter for letter in letters if not unicodedata.combining(letter)).split()
    words = [word for word in words if word not in ("x", "X")]
    if words and words[0].isupper():
        words = [word.lower() for word in words[:2]] + words[2:]
    bare = [re.sub(r"[^a-z-]", "", word.lower()).replace("-", "") for word in words]
    if len(words) > 1 and re.fullmatch("[A-Z][a-z-]{3,}", words[1]) and words[0].istitle():
        words[1] = words[1].lower()  # both words with a capital; a genus alone hardly has an author
    is_binomial = len(words) > 1 and len(bare[1]) > 2 and words[1][:1].islower() and bare[1] not in _NO_EPITHET
    if not is_binomial or any(letter.isdigit() for letter in name):
        return "".join(letter for letter in " ".join(words).casefold() if letter.isalnum())
    key, is_next = bare[:2], True
    for at in range(2, len(words)):
        rank = _RANKS.get(bare[at], bare[at])
        is_epithet = words[at][:1].islower() and len(bare[at]) > 2 and rank not in (*_BEFORE_EPITHET, *_NO_EPITHET)
        if rank in _KEPT or (is_next and is_epithet):
            key.append(rank)
        is_next = rank in _BEFORE_EPITHET  # the author of a species may stand before the rank of what is below it
    return " ".join(key)
