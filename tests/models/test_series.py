"""Time: what had not ended by the survey's date is not seen, in training or in prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from releve.data.statistics import ArrayStatistics, Statistics
from releve.models.config import ModelConfig
from releve.models.model import build_model
from releve.models.series import SERIES_ENCODERS, align_series

FILL = 255


def align(year: int, month: int, *, seasons: int = 4, years_back: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Align a series of 2000 to 2003 whose value is 10 x (year - 2000) + season."""
    series = torch.tensor([[10 * y + q for q in range(seasons)] for y in range(4)]).reshape(1, 1, 4, seasons)
    values, visible = align_series(
        series, torch.tensor([year]), torch.tensor([month]), first_year=2000, years_back=years_back
    )
    return values[0, 0], visible[0]


def test_a_survey_of_july_sees_two_quarters_of_its_year_and_all_of_earlier_years() -> None:
    values, visible = align(2002, 7)
    assert visible.tolist() == [[True, True, False, False], [True] * 4, [True] * 4]
    assert values[visible].tolist() == [20, 21, 10, 11, 12, 13, 0, 1, 2, 3]


@pytest.mark.parametrize(("month", "ended"), [(0, 0), (1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (9, 2), (10, 3), (12, 3)])
def test_quarters_are_seen_from_the_month_after_their_last(month: int, ended: int) -> None:
    assert align(2002, month)[1][0].sum() == ended


@pytest.mark.parametrize(("month", "ended"), [(0, 0), (1, 0), (2, 1), (12, 11)])
def test_months_are_seen_from_the_next_month_on(month: int, ended: int) -> None:
    assert align(2002, month, seasons=12)[1][0].sum() == ended


@pytest.mark.parametrize("month", [0, 6])
def test_years_outside_the_series_are_not_seen(month: int) -> None:
    assert align(1999, month)[1].sum() == 0
    assert align(0, month)[1].sum() == 0  # a survey without a year
    after = align(2005, month, years_back=4)
    assert after[1].tolist() == [[False] * 4, [False] * 4, [True] * 4, [True] * 4]
    assert after[0][2:].tolist() == [[30, 31, 32, 33], [20, 21, 22, 23]]


def test_rows_of_one_batch_keep_their_own_dates() -> None:
    series = torch.arange(8).reshape(2, 1, 4, 1)
    values, visible = align_series(
        series, torch.tensor([2001, 2003]), torch.tensor([0, 0]), first_year=2000, years_back=2
    )
    assert values[0, 0, 1].item() == 0
    assert values[1, 0, 1].item() == 6
    assert visible.squeeze(-1).tolist() == [[False, True], [False, True]]


@pytest.fixture(params=SERIES_ENCODERS)
def encoder(request: pytest.FixtureRequest) -> str:
    """The name of an encoder; each must keep what the tests below say."""
    return str(request.param)


def make_encoder(encoder: str, years_back: int = 5, seasons: int = 4) -> nn.Module:
    torch.manual_seed(2)
    statistics = ArrayStatistics(
        shape=(2, 6, seasons), fill=FILL, mean=[100.0, 50.0], std=[20.0, 10.0], first_year=2015
    )
    return SERIES_ENCODERS[encoder](statistics, 8, 4, years_back).eval()


def series(seed: int = 0, num: int = 1) -> torch.Tensor:
    return torch.randint(0, 250, (num, 2, 6, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("month", [0, 5, 8])
def test_nothing_at_or_after_the_survey_changes_the_embedding_and_each_earlier_step_does(
    month: int, training: bool, encoder: str
) -> None:
    model = make_encoder(encoder)
    date = torch.tensor([2018, 2018]), torch.tensor([month, month])
    values = series(num=2)
    model.train(training)
    before = model(values, *date)
    ended = max(0, (month - 1) // 3)
    for year in range(6):
        for quarter in range(4):
            changed = values.clone()
            changed[0, :, year, quarter] = 250 - changed[0, :, year, quarter]
            after = model(changed, *date)
            future = year > 3 or (year == 3 and quarter >= ended)
            assert torch.equal(after, before) == future, (year, quarter)


def test_one_place_in_two_years_has_two_embeddings(encoder: str) -> None:
    model, values = make_encoder(encoder), series()
    months = torch.tensor([0])
    assert not torch.equal(model(values, torch.tensor([2018]), months), model(values, torch.tensor([2019]), months))


def test_fill_is_the_mean_with_a_flag_whatever_its_number(encoder: str) -> None:
    model = make_encoder(encoder)
    date = torch.tensor([2021]), torch.tensor([0])
    values = series()
    filled = values.clone()
    filled[0, 0, 2, 1] = FILL
    assert not torch.equal(model(filled, *date), model(values, *date))
    other = make_encoder(encoder)
    other.scale.fill = 251.0
    assert torch.equal(other(torch.where(filled == FILL, 251, filled), *date), model(filled, *date))


@pytest.mark.parametrize(("seasons", "years_back"), [(12, 5), (4, 1), (1, 3), (12, 30)])
def test_months_single_seasons_and_long_looks_back_are_encoded(seasons: int, years_back: int, encoder: str) -> None:
    model = make_encoder(encoder, years_back, seasons).train()
    values = torch.randint(0, 250, (3, 2, 6, seasons), dtype=torch.int16)
    found = model(values, torch.tensor([2018] * 3), torch.tensor([6] * 3))
    assert found.shape == (3, 8)
    assert found.isfinite().all()


def test_without_surveys_there_are_no_embeddings_gradients_are_zero_and_norms_stay(encoder: str) -> None:
    """A process of several may have no survey with the modality, and must take part all the same."""
    model = make_encoder(encoder).train()
    model(series(num=4), torch.full((4,), 2018), torch.full((4,), 6))
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    none = torch.zeros(0, dtype=torch.int64)
    found = model(series(num=0), none, none)
    assert found.shape == (0, 8)
    found.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    for name, buffer in before.items():
        assert torch.equal(model.get_buffer(name), buffer), name


def test_a_survey_is_encoded_alike_alone_and_among_others(encoder: str) -> None:
    model, values = make_encoder(encoder), series(num=5)
    years, months = torch.tensor([2016, 2017, 2018, 2019, 2020]), torch.tensor([0, 3, 6, 9, 12])
    together = model(values, years, months)
    for i in range(5):
        alone = model(values[i : i + 1], years[i : i + 1], months[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])


def test_a_model_has_the_encoder_that_its_recipe_names(encoder: str) -> None:
    statistics = Statistics(
        species_ids=[1, 2],
        num_positives=[1, 1],
        num_rows=2,
        categories={},
        tables={},
        arrays={"landsat": ArrayStatistics(shape=(2, 6, 4), fill=FILL, mean=[0.0] * 2, std=[1.0] * 2, first_year=2015)},
    )
    config = ModelConfig(modalities=("landsat",), series_encoder=encoder)  # type: ignore[arg-type]
    assert type(build_model(statistics, config, seed=0).encoders["landsat"]) is SERIES_ENCODERS[encoder]
