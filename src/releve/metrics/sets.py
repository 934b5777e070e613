"""Lists against observed sets: by survey, by species and pooled."""

# N surveys, S species

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from releve.errors import TableError
from releve.lists import Lists


@dataclass(frozen=True, eq=False)
class SetScores:
    """How well lists match the truth; see :func:`score_sets`.

    ``sample_f1``, ``precision``, ``recall`` and ``jaccard`` are means over surveys; ``micro_f1`` pools all
    cells; ``macro_f1`` is the mean over the species present in the truth. ``richness_bias`` is the mean of
    (list length - observed richness), ``richness_mae`` the mean of its absolute value, both in species.
    ``per_survey`` has a row for each survey: ``num_observed, num_predicted, num_hit, f1``. ``per_species`` has a row
    for each species listed or observed: ``species_index, num_true, num_predicted, num_hit, precision, recall, f1``;
    precision is null for a species never listed, recall for one never observed.
    """

    sample_f1: float
    micro_f1: float
    macro_f1: float
    precision: float
    recall: float
    jaccard: float
    num_surveys: int
    richness_bias: float
    richness_mae: float
    per_survey: pl.DataFrame
    per_species: pl.DataFrame

    @property
    def per_survey_f1(self) -> np.ndarray:
        """(N,) F1 of each survey."""
        return self.per_survey["f1"].to_numpy()

    def summary(self) -> dict[str, float]:
        """Return the scores that are single numbers, by name, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type in ("float", "int")}


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return ``top / bottom``, 0 where that is 0 / 0."""
    return np.divide(top, bottom, out=np.zeros(len(top)), where=bottom > 0)


def score_sets(predicted: Lists, truth: Lists, num_species: int) -> SetScores:
    """Return how well the predicted sets match the observed ones, over all surveys at once.

    For a survey with predicted set P and observed set T: F1 = 2·|P ∩ T| / (|P| + |T|), precision =
    |P ∩ T| / |P|, recall = |P ∩ T| / |T|, Jaccard = |P ∩ T| / |P ∪ T|. An empty list for a plot on which nothing
    grew is right, and has 1 in all four; any other 0 / 0 counts as 0. Equal to scikit-learn's ``f1_score``,
    ``precision_score``, ``recall_score`` and ``jaccard_score`` with ``average="samples"`` where a list or its plot
    holds a species; micro F1 pools all pairs. Macro F1 is scikit-learn's with ``labels`` = the species present in the
    truth, as the field has it; over all columns, scikit-learn would count each species that is neither listed nor
    observed as a zero.

    Parameters
    ----------
    predicted
        One list per survey, indices below ``num_species``.
    truth
        The observed sets of the same surveys. An index of ``num_species`` or more is a species unknown to the
        model: it counts as a miss in recall, F1 and Jaccard, and as a species of F1 0 in the macro mean.
    num_species
        The number of columns of the model.

    Raises
    ------
    TableError
        If the numbers of surveys differ, there are none, or a list names a species without a column.

    Examples
    --------
    >>> scores = score_sets(Lists.from_rows([[0, 1], [2]]), Lists.from_rows([[0], [1, 2]]), num_species=3)
    >>> round(scores.sample_f1, 4), round(scores.micro_f1, 4), round(scores.macro_f1, 4)
    (0.6667, 0.6667, 0.6667)
    """
    if predicted.num_surveys != truth.num_surveys or not truth.num_surveys:
        raise TableError(
            f"{predicted.num_surveys} predicted lists for {truth.num_surveys} surveys",
            expected="one list for each of one or more surveys, in the same order",
        )
    if len(predicted.indices) and predicted.indices.max() >= num_species:
        raise TableError(
            f"a predicted list names species index {predicted.indices.max()}",
            expected=f"indices below the {num_species} species of the model",
        )
    width = max(num_species, int(truth.indices.max(initial=-1)) + 1)
    survey_of = predicted.surveys()
    hit = np.isin(survey_of * width + predicted.indices, truth.surveys() * width + truth.indices, assume_unique=True)
    hits_N = np.bincount(survey_of[hit], minlength=truth.num_surveys)
    listed_N, observed_N = predicted.lengths(), truth.lengths()
    right_N = (listed_N + observed_N == 0).astype(float)  # nothing grew, and nothing was listed
    f1_N = _ratio(2 * hits_N, listed_N + observed_N) + right_N
    excess_N = listed_N - observed_N

    hits_S = np.bincount(predicted.indices[hit], minlength=width)
    listed_S = np.bincount(predicted.indices, minlength=width)
    observed_S = np.bincount(truth.indices, minlength=width)
    f1_S = _ratio(2 * hits_S, listed_S + observed_S)
    present = observed_S > 0
    return SetScores(
        sample_f1=float(f1_N.mean()),
        micro_f1=2 * int(hits_S.sum()) / max(int(listed_S.sum() + observed_S.sum()), 1),
        macro_f1=float(f1_S[present].mean()) if present.any() else 0.0,
        precision=float((_ratio(hits_N, listed_N) + right_N).mean()),
        recall=float((_ratio(hits_N, observed_N) + right_N).mean()),
        jaccard=float((_ratio(hits_N, listed_N + observed_N - hits_N) + right_N).mean()),
        num_surveys=truth.num_surveys,
        richness_bias=float(excess_N.mean()),
        richness_mae=float(np.abs(excess_N).mean()),
        per_survey=pl.DataFrame({"num_observed": observed_N, "num_predicted": listed_N, "num_hit": hits_N, "f1": f1_N}),
        per_species=_species_table(hits_S, listed_S, observed_S, f1_S),
    )


def _species_table(hits_S: np.ndarray, listed_S: np.ndarray, observed_S: np.ndarray, f1_S: np.ndarray) -> pl.DataFrame:
    """Return one row per species that is listed or observed, with undefined ratios as nulls."""
    rows = np.flatnonzero(listed_S + observed_S)
    table = pl.DataFrame(
        {
            "species_index": rows,
            "num_true": observed_S[rows],
            "num_predicted": listed_S[rows],
            "num_hit": hits_S[rows],
        }
    )
    hit = pl.col("num_hit")
    return table.with_columns(
        pl.when(pl.col("num_predicted") > 0).then(hit / pl.col("num_predicted")).alias("precision"),
        pl.when(pl.col("num_true") > 0).then(hit / pl.col("num_true")).alias("recall"),
        pl.Series("f1", f1_S[rows]),
    )
