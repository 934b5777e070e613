"""Image patches: the network is the one that timm names, with the weights that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from releve.data.statistics import ArrayStatistics
from releve.errors import ConfigError
from releve.models.patches import PatchEncoder, adapt_first_layer, make_backbone, turn, view

DATE = (torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
TINY = "test_resnet"
STATISTICS = ArrayStatistics(
    shape=(4, 32, 32), fill=None, mean=[100.0, 90.0, 80.0, 120.0], std=[20.0, 30.0, 40.0, 50.0], first_year=None
)


def patches(num: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (num, 4, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return timm.create_model(TINY, num_classes=10).state_dict()


@pytest.mark.parametrize("form", [".safetensors", ".pth", "nested.pth"])
def test_local_weights_are_loaded_and_their_first_layer_spread_over_the_bands(
    tmp_path: Path, weights: dict[str, torch.Tensor], form: str
) -> None:
    file = tmp_path / f"weights{form}"
    if form == ".safetensors":
        save_file(weights, file)
    else:
        torch.save({"state_dict": weights} if form == "nested.pth" else weights, file)
    network = make_backbone(TINY, 4, str(file))
    first = next(name for name, tensor in weights.items() if tensor.ndim == 4)
    loaded = network.state_dict()
    expected = torch.cat([weights[first], weights[first][:, :1]], dim=1) * 3 / 4
    assert torch.equal(loaded[first], expected)
    others = [name for name in loaded if name != first]
    assert len(others) > 10
    assert all(torch.equal(loaded[name], weights[name]) for name in others)


@pytest.mark.parametrize("num_bands", [1, 2, 3, 4, 6, 7])
def test_the_first_layer_is_adapted_as_timm_does(weights: dict[str, torch.Tensor], num_bands: int) -> None:
    network = make_backbone(TINY, num_bands, None)
    first = next(name for name, tensor in weights.items() if tensor.ndim == 4)
    found = adapt_first_layer(weights, network)[first]
    if num_bands == 1:  # timm sums the bands instead
        assert torch.equal(found, weights[first][:, :1] * 3)
    else:
        assert torch.equal(found, timm.models.adapt_input_conv(num_bands, weights[first]))


def test_unusable_backbones_and_weights_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"timm has no model 'resnet19'.*resnet"):
        make_backbone("resnet19", 3, None)
    with pytest.raises(ConfigError, match="no weights at"):
        make_backbone(TINY, 3, str(tmp_path / "absent.pth"))
    for name in ("broken.pth", "broken.safetensors", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if name == "empty.pth" else b"not weights at all")
        with pytest.raises(ConfigError, match=f"{name} cannot be read"):
            make_backbone(TINY, 3, str(tmp_path / name))
    torch.save(Path("code"), tmp_path / "code.pth")
    with pytest.raises(ConfigError, match="code.pth cannot be read"):
        make_backbone(TINY, 3, str(tmp_path / "code.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="list.pth holds a list"):
        make_backbone(TINY, 3, str(tmp_path / "list.pth"))
    few = dict(list(weights.items())[:3])
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(ConfigError, match=r"few.pth lacks \d+ tensors"):
        make_backbone(TINY, 3, str(tmp_path / "few.pth"))
    last = next(name for name in reversed(weights) if weights[name].ndim == 4)
    torch.save(weights | {last: weights[last][:1]}, tmp_path / "misfit.pth")
    with pytest.raises(ConfigError, match="misfit.pth does not fit"):
        make_backbone(TINY, 3, str(tmp_path / "misfit.pth"))


def test_a_download_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ConfigError, match="no weights of test_resnet to download: offline.*local"):
        make_backbone(TINY, 3, "hub")


def test_more_bands_than_stored_are_refused_and_fewer_are_the_first() -> None:
    with pytest.raises(ConfigError, match="model.patch_bands is 5.*at most the 4"):
        PatchEncoder(STATISTICS, backbone=TINY, num_bands=5)
    model = PatchEncoder(STATISTICS, backbone=TINY, num_bands=3).eval()
    changed = patches()
    changed[:, 3] = 0
    assert torch.equal(model(patches(), *DATE), model(changed, *DATE))


def test_patches_are_normalised_and_fill_is_the_mean() -> None:
    model = PatchEncoder(STATISTICS.model_copy(update={"fill": 7.0}), backbone=TINY).eval()
    model.network = torch.nn.Identity()
    values = torch.full((1, 4, 2, 2), 140, dtype=torch.int16)
    values[0, 1, 0, 1] = 7
    found = model(values, *DATE)
    assert found[0, :, 0, 0].tolist() == pytest.approx([2.0, 50 / 30, 1.5, 0.4])
    assert found[0, 1, 0, 1] == 0


def test_pooling_averages_pixels() -> None:
    model = PatchEncoder(STATISTICS, backbone=TINY, pool=2).eval()
    model.network = torch.nn.Identity()
    values = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    values[0, 0, :2, :2] = torch.tensor([[100, 120], [140, 160]])
    assert model(values, *DATE)[0, 0].flatten().tolist() == pytest.approx([1.5, -5, -5, -5])


@pytest.mark.parametrize("num", [1, 3, 8, 21])
def test_a_turn_is_one_of_the_eight_of_the_square_for_each_patch_in_its_place(num: int) -> None:
    patch = torch.arange(num * 2 * 9.0).reshape(num, 2, 3, 3)
    turned = turn(patch)
    for before, after in zip(patch, turned, strict=True):
        images = [torch.rot90(before, k, dims=(1, 2)) for k in range(4)]
        images += [image.flip(2) for image in images]
        assert sum(torch.equal(after, image) for image in images) == 1


def test_all_eight_turns_are_drawn() -> None:
    torch.manual_seed(0)
    patch = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert len({tuple(turn(patch).flatten().tolist()) for _ in range(200)}) == 8


def test_the_eight_views_are_those_of_the_square_and_predictions_over_them_do_not_mind_a_turn() -> None:
    square = patches(1)
    seen = {view(square, kind).numpy().tobytes() for kind in range(8)}
    assert len(seen) == 8 and square.numpy().tobytes() in seen
    assert torch.equal(view(square, 0), square)
    torch.manual_seed(0)
    plain = PatchEncoder(STATISTICS, backbone=TINY).eval()
    every = PatchEncoder(STATISTICS, backbone=TINY, views=8).eval()
    every.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        one_by_one = [plain(view(square, kind), *DATE) for kind in range(8)]
        together = every(square, *DATE)
        torch.testing.assert_close(together, torch.stack(one_by_one).mean(dim=0))
        torch.testing.assert_close(every(view(square, 5), *DATE), together)
    assert not torch.allclose(one_by_one[0], one_by_one[1])


def test_checkpointing_changes_what_is_kept_and_not_what_is_learned() -> None:
    torch.manual_seed(0)
    plain = PatchEncoder(STATISTICS, backbone=TINY).train()
    thrifty = PatchEncoder(STATISTICS, backbone=TINY, checkpointing=True).train()
    thrifty.load_state_dict(plain.state_dict())
    kept = []
    for encoder in (plain, thrifty):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: (s.append(x.numel()), x)[1], lambda x: x):
            torch.manual_seed(1)  # the same turn
            features = encoder(patches(8), *DATE)
        kept.append(sum(saved))
        features.square().sum().backward()
    assert kept[1] < 0.7 * kept[0]
    for (name, mine), its in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_a_backbone_that_cannot_be_checkpointed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(timm.models.resnet.ResNet, "set_grad_checkpointing")
    with pytest.raises(ConfigError, match="patch_checkpointing: timm's test_resnet has none"):
        PatchEncoder(STATISTICS, backbone=TINY, checkpointing=True)
