"""Rows that name a species but do not say that it grew there: absences, gardens, fossils."""

from __future__ import annotations

import polars as pl

ABSENT = "recorded as absent"
NONE_COUNTED = "count of zero"
CULTIVATED = "cultivated or in captivity"
FOSSIL = "fossil"
BELOW = "less than the least abundance that is a presence"
REASONS = (ABSENT, NONE_COUNTED, BELOW, CULTIVATED, FOSSIL)

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "occurrence_status": {
        ABSENT: (
            *("absent", "absence", "notdetected", "undetected", "nondetection", "notfound", "excluded", "negative"),
            *("none", "zero", "abs", "abwesend", "abwesenheit", "fehlt", "fehlend", "nein", "negativ", "nichtgefunden"),
            *("nichtvorhanden", "absente", "absents", "absentes", "non", "nondtect", "nontrouv", "ausente", "ausentes"),
            *("ausencia", "ausncia", "assente", "assenza", "afwezig", "nee"),
        )
    },
    "basis": {FOSSIL: ("fossilspecimen", "fossil"), CULTIVATED: ("livingspecimen",)},
    "establishment": {CULTIVATED: ("managed", "cultivated", "captive", "planted", "captivecultivated")},
    "degree": {CULTIVATED: ("managed", "cultivated", "captive", "planted")},
}
"""What a column may say (in small letters, without blanks and signs), and what that means."""
_FALSE = ("false", "f", "no", "n", "a")
_TRUE = (
    *("present", "presence", "pres", "yes", "y", "true", "t", "p", "x", "detected", "detection", "found", "observed"),
    *("positive", "common", "rare", "irregular", "anwesend", "anwesenheit", "vorhanden", "gefunden", "ja", "j"),
    *("presente", "presentes", "presencia", "presena", "presenza", "prsent", "prsente", "prsence", "oui", "o", "si"),
    *("s", "sim", "aanwezig"),
)
"""Words for present in a column of the status, as ``WORDS`` has those for absent: without letters with accents."""
UNKNOWN_STATUS = "occurrence status in a word that is not known, taken as a presence"


def is_unknown_status() -> pl.Expr:
    """Return the expression of where the column ``occurrence_status`` holds a word that is not known.

    Examples
    --------
    >>> table = pl.DataFrame({"occurrence_status": ["Ausente", "présent", "1", "doubtful", None]})
    >>> table.select(is_unknown_status()).to_series().to_list()
    [False, False, False, True, False]
    """
    status = pl.col("occurrence_status")
    known = (*WORDS["occurrence_status"][ABSENT], *_TRUE, *_FALSE)
    is_known = _letters(status).is_in(known) | status.cast(pl.Float64, strict=False).is_not_null()
    return (status.is_not_null() & ~is_known).fill_null(False)


def _letters(column: pl.Expr) -> pl.Expr:
    return column.str.to_lowercase().str.replace_all("[^a-z]", "")


def why_no_presence(columns: list[str]) -> pl.Expr:
    """Return the expression, over columns of text, of the reason why a row is no presence; null where it is one.

    Parameters
    ----------
    columns
        Those of the table; of them ``occurrence_status``, ``count``, ``basis``, ``establishment`` and ``degree`` are
        looked at, the terms ``occurrenceStatus``, ``individualCount``, ``basisOfRecord``, ``establishmentMeans`` and
        ``degreeOfEstablishment`` of Darwin Core, and ``abundance_why_not``, what ``judge_abundances`` found.

    Examples
    --------
    >>> import polars as pl
    >>> rows = pl.DataFrame({"occurrence_status": ["PRESENT", "Absent", None], "count": ["2", None, "0"]})
    >>> rows.select(why_no_presence(rows.columns)).to_series().to_list()
    [None, 'recorded as absent', 'count of zero']
    >>> rows = pl.DataFrame({"occurrence_status": ["1", "0", "TRUE", "FALSE"]})
    >>> rows.select(why_no_presence(rows.columns)).to_series().to_list()
    [None, 'recorded as absent', None, 'recorded as absent']

    References
    ----------
    Darwin Core: Wieczorek et al. 2012, doi:10.1371/journal.pone.0029715.
    """
    said = {name: _letters(pl.col(name)) for name in WORDS if name in columns}
    found = {
        reason: [said[name].is_in(words[reason]) for name, words in WORDS.items() if name in said and reason in words]
        for reason in REASONS
    }
    if "occurrence_status" in columns:  # 0 and 1, FALSE and TRUE, as R has them
        status = pl.col("occurrence_status")
        found[ABSENT] += [status.cast(pl.Float64, strict=False) <= 0, said["occurrence_status"].is_in(_FALSE)]
    if "count" in columns:
        found[NONE_COUNTED].append(pl.col("count").str.replace(",", ".").cast(pl.Float64, strict=False) == 0)
    if "abundance_why_not" in columns:
        for reason in (NONE_COUNTED, BELOW):
            found[reason].append(pl.col("abundance_why_not") == reason)
    reasons = [pl.when(pl.any_horizontal(tests)).then(pl.lit(reason)) for reason, tests in found.items() if tests]
    return pl.coalesce(*reasons, pl.lit(None, pl.String)).alias("why_not")
