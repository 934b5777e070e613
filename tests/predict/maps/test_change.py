from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from drawn import UTM, write_maps
from releve.errors import RunError
from releve.predict.maps.change import compare_maps
from releve.predict.maps.facts import Facts
from releve.predict.maps.manifest import Change
from releve.predict.maps.sparse import PROBS_OF_CODES, to_codes


def flat(*probs: float) -> np.ndarray:
    """Return a world that is the same everywhere."""
    return np.broadcast_to(np.array(probs, np.float32), (20, 36, len(probs))).copy()


def kept(prob: float) -> float:
    return float(PROBS_OF_CODES[to_codes(np.array([prob], np.float32))][0])


def read(change: Change, out: Path) -> dict[str, np.ndarray]:
    found = {}
    for product in change.products.values():
        with rasterio.open(out / product.file) as dataset:
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and dataset.tags()["unit"] == product.unit
            found |= dict(zip(product.bands, dataset.read(), strict=True))
    return found


def test_gain_loss_and_turnover_are_those_of_the_table(tmp_path: Path) -> None:
    first, second = flat(0.8, 0.5, 0.2), flat(0.3, 0.5, 0.6)
    second[0, 0] = first[0, 0]
    first[1, 1], second[2, 2] = np.nan, np.nan
    maps = write_maps(tmp_path / "a", first), write_maps(tmp_path / "b", second)
    change = compare_maps(*maps, tmp_path / "out")
    found = read(change, tmp_path / "out")
    gain, loss = kept(0.6) - kept(0.2), kept(0.8) - kept(0.3)
    assert found["gain"][5, 5] == pytest.approx(gain) and found["loss"][19, 35] == pytest.approx(loss)
    assert found["richness_difference"][5, 5] == pytest.approx(1.4 - 1.5)
    assert found["bray_curtis"][5, 5] == pytest.approx((gain + loss) / 2.9)
    shared = kept(0.8) * kept(0.3) + kept(0.5) ** 2 + kept(0.2) * kept(0.6)
    assert found["expected_sorensen"][5, 5] == pytest.approx(1 - 2 * shared / 2.9)
    # One cell did not change; its two lists would still differ by chance.
    assert found["gain"][0, 0] == found["loss"][0, 0] == found["bray_curtis"][0, 0] == 0
    assert found["expected_sorensen"][0, 0] == pytest.approx(
        1 - (kept(0.8) ** 2 + kept(0.5) ** 2 + kept(0.2) ** 2) / 1.5
    )
    assert np.isnan([found[name][at] for name in found for at in ((1, 1), (2, 2))]).all()
    assert change.num_cells == 720 - 2


def test_what_was_not_kept_is_taken_as_no_change(tmp_path: Path) -> None:
    """Where the rare species is not kept in one map, it is known to lie below .0098 there, and no more."""
    first, second = flat(0.9, 0.004), flat(0.9, 0.015)
    maps = write_maps(tmp_path / "a", first), write_maps(tmp_path / "b", second)
    assert (maps[0].codes_of(1) == 0).all() and (maps[1].codes_of(1) > 0).all()
    found = read(compare_maps(*maps, tmp_path / "out"), tmp_path / "out")
    # The lowest probability that the first map keeps is that of its one species, .9: nothing is known to have changed.
    assert (found["gain"] == 0).all() and (found["loss"] == 0).all()
    np.testing.assert_allclose(found["richness_difference"], 0.011, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_change_is_at_most_that_of_the_probabilities_and_little_less(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.beta(0.1, 3, (20, 36, 26)).astype(np.float32) for _ in "ab")
    maps = write_maps(tmp_path / "a", first), write_maps(tmp_path / "b", second)
    found = read(compare_maps(*maps, tmp_path / "out"), tmp_path / "out")
    for name, sign in (("gain", 1), ("loss", -1)):
        true = np.maximum(sign * (second.astype(float) - first), 0).sum(axis=-1)
        # Codes are off by .032 p (1 - p); what is not kept is 1 % of a tile's species.
        slack = 0.032 * (first + second).sum(axis=-1)
        assert (found[name] <= true + slack).all()
        kept_once = np.mean([((maps[0].codes_of(i) > 0) ^ (maps[1].codes_of(i) > 0)) for i in range(26)]) * 26
        short = true.mean() - found[name].mean()
        assert 0 < short <= 0.01 * kept_once + 0.01 * (first + second).sum(axis=-1).mean()
    np.testing.assert_allclose(found["gain"] - found["loss"], found["richness_difference"], atol=0.5)
    assert (found["bray_curtis"] <= found["expected_sorensen"] + 0.05).all()


def test_places_are_outside_if_they_are_so_in_either_map(tmp_path: Path) -> None:
    outside = np.zeros((2, 20, 36), np.uint8)
    outside[0, 3, 3] = outside[1, 4, 4] = 1
    probs = flat(0.5)
    probs[0, 0] = np.nan
    maps = [write_maps(tmp_path / str(i), probs, arrays={"outside": outside[i]}) for i in (0, 1)]
    change = compare_maps(*maps, tmp_path / "out")
    found = read(change, tmp_path / "out")["outside"]
    assert found[3, 3] == found[4, 4] == 1 and found.sum() == 2 + 255 and found[0, 0] == 255
    assert not any("outside" in note for note in change.notes)


def test_notes_say_in_what_else_the_maps_differ(tmp_path: Path) -> None:
    first = write_maps(tmp_path / "a", flat(0.5), notes=("shared", "old"))
    facts = Facts(100.0, None, 2050)
    second = write_maps(tmp_path / "b", flat(0.5), notes=("shared", "new"), facts=facts, identity={"run": "another"})
    change = compare_maps(first, second, tmp_path / "out")
    assert change.notes == (
        "The maps are of different runs: what differs between two models is shown as change, too",
        "The year differs: 2020 in the first map, 2050 in the second",
        "Where the models guess is not known of both maps: nothing is marked as outside",
        "Of both maps: shared",
        "Of the first map: old",
        "Of the second map: new",
    )
    assert change.second.facts.year == 2050 and Change.model_validate(change.model_dump(mode="json")) == change


def test_maps_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first = write_maps(tmp_path / "a", flat(0.5, 0.5))
    moved = replace(UTM, transform=(1000.0, 0.0, 501_000.0, 0.0, -1000.0, 5_300_000.0))
    with pytest.raises(RunError, match="different grids: 20 x 36 cells of 1000 from 500000.*from 501000.*--bounds"):
        compare_maps(first, write_maps(tmp_path / "b", flat(0.5, 0.5), grid=moved), tmp_path / "out")
    other = write_maps(tmp_path / "c", flat(0.5, 0.5), names=("Species a", "Species x"))
    with pytest.raises(RunError, match="different species .*one run"):
        compare_maps(first, other, tmp_path / "out")
    left, right = flat(0.5, 0.5), flat(0.5, 0.5)
    left[:, :18], right[:, 18:] = np.nan, np.nan
    maps = write_maps(tmp_path / "d", left), write_maps(tmp_path / "e", right)
    with pytest.raises(RunError, match="no cell is mapped in both"):
        compare_maps(*maps, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tif"))


def test_an_earlier_comparison_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "a", flat(0.5)), write_maps(tmp_path / "b", flat(0.7))
    compare_maps(*maps, tmp_path / "out")
    with pytest.raises(RunError, match="exists"):
        compare_maps(*maps, tmp_path / "out")
    (tmp_path / "out" / "maps.html").write_text("the page")
    assert compare_maps(*maps, tmp_path / "out", overwrite=True).num_cells == 720
