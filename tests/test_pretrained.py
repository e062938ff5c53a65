"""timm's pretrained weights are evaluated with their own head, class names and image preprocessing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from support.colours import ALL_WNIDS, NUMBERS, WNIDS, Colours, draw, place_rows, prototypes, val_colours
from timm.data import create_transform, resolve_model_data_config
from timm.models._hub import save_for_hf
from torch import nn

from ranger21.config.compose import compose_config
from ranger21.data.decode import Encoded
from ranger21.models.build import build_model
from ranger21.models.evaluated import Request
from ranger21.models.pretrained import load_pretrained, timm_name, view_of_timm
from ranger21.models.scoring import score
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError

KWARGS: dict[str, Any] = {"channels": [8, 16, 16, 16], "stem_width": 8}
MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.4, 0.5)  # of no published weights
SMALL = ("data.workers=0", "trainer.device=cpu")
RIGHT = 100 * 23 / 24


def network(classes: int, order: Sequence[int]) -> nn.Module:
    """Return a model that recognizes colour i as its class order[i], in images normalized with MEAN and STD."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=classes, **KWARGS)
    prototypes(model, MEAN, STD)
    place_rows(model, order)
    return model


def directory(place: Path, model: nn.Module, **more: Any) -> Path:
    """Write config.json and the weights as timm's save_for_hf does."""
    recipe = {"mean": MEAN, "std": STD, "input_size": (3, 32, 32), "crop_pct": 0.8, "interpolation": "bicubic"}
    save_for_hf(model, str(place), model_config={"pretrained_cfg": recipe, **more}, safe_serialization=True)
    return place


def evaluate(source: object, root: Path, *overrides: str, **options: Any) -> tuple[dict[str, Any], str]:
    scored = score(Request(str(source), (f"data.root={root}", *SMALL, *overrides), **options))
    assert scored is not None
    return scored[0], " ".join(scored[1])


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with weights for all 1000 classes of ImageNet-1k."""
    return directory(tmp_path_factory.mktemp("timm") / "thousand", network(1000, NUMBERS))


def test_a_head_of_1000_classes_is_kept_for_data_of_12_classes(thousand: Path, colours: Colours) -> None:
    """Earlier versions replaced the head with a random one of 12 classes."""
    result, said = evaluate(f"local-dir:{thousand}", colours.root)
    assert (result["val/acc1"], result["classes"], result["model_classes"]) == (pytest.approx(RIGHT), 12, 1000)
    assert "32x32 pixels, crop_pct 0.8 (center), bicubic, mean 0.5, 0.4, 0.3, std 0.3, 0.4, 0.5." in said
    assert "Its class names are from timm's table imagenet-1k." in said
    assert evaluate(thousand, colours.root)[0] == result  # the same without the prefix


def test_a_head_with_classes_in_a_different_order_is_matched_by_name(colours: Colours, tmp_path: Path) -> None:
    order = [5, 0, 11, 3, 8, 1, 10, 2, 7, 4, 9, 6]
    names = [WNIDS[order.index(row)] for row in range(12)]
    place = directory(tmp_path / "twelve", network(12, order), label_names=names)
    result, said = evaluate(place, colours.root)
    assert result["val/acc1"] == pytest.approx(RIGHT) and "names are from its label_names" in said
    nameless = directory(tmp_path / "nameless", network(12, range(12)))
    with pytest.raises(UserError, match=r"does not name its classes, .* use --by-position"):
        evaluate(nameless, colours.root)
    assert evaluate(nameless, colours.root, by_position=True)[0]["val/acc1"] == pytest.approx(RIGHT)


def test_numbered_folders_are_matched_to_the_1000_classes_by_number(thousand: Path, tmp_path: Path) -> None:
    for label, number in enumerate(NUMBERS):
        draw(tmp_path / "v2", str(number), val_colours(label))
    result, said = evaluate(f"local-dir:{thousand}", tmp_path / "v2")
    assert result["val/acc1"] == pytest.approx(RIGHT) and "number n stands for class n of its 1000" in said


def test_error_names_the_classes_that_the_weights_lack(thousand: Path, tmp_path: Path) -> None:
    foreign = [f"n0000000{n}" for n in range(6)]
    for label, name in enumerate([*WNIDS[:6], *foreign]):
        draw(tmp_path / "val", name, val_colours(label))
    with pytest.raises(UserError, match=r"^6 of the 12 .* among the 1000 of .*: n00000000, n00000001, n00000002 and 3"):
        evaluate(thousand, tmp_path)


def test_pretrained_cfg_overlay_loads_a_local_file(colours: Colours, tmp_path: Path) -> None:
    """The overlay of `timm:NAME` is given on the command line."""
    torch.save(network(1000, NUMBERS).state_dict(), tmp_path / "w.pth")
    overlay = f"{{file:{tmp_path}/w.pth,input_size:[3,32,32],mean:[0.5,0.4,0.3],std:[0.3,0.4,0.5],crop_pct:0.8}}"
    kwargs = f"+model.kwargs={{channels:[8,16,16,16],stem_width:8,pretrained_cfg_overlay:{overlay}}}"
    result, said = evaluate("timm:resnet10t", colours.root, kwargs)
    assert result["val/acc1"] == pytest.approx(RIGHT) and "crop_pct 0.8 (center), bicubic, mean 0.5" in said


@pytest.mark.parametrize(
    ("settings", "typed", "same"),
    [
        ({"interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"}, {}, {}),
        ({"interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "squash"}, {}, {}),
        ({"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "border"}, {}, {}),
        ({"interpolation": "bicubic", "crop_pct": 0.9}, {"crop": 24}, {"input_size": (3, 24, 24)}),
        ({"interpolation": "bicubic", "crop_pct": 0.9}, {"resize": 47}, {"crop_pct": 32 / 47.5}),
        ({"interpolation": "bicubic", "crop_pct": 0.9}, {"squash": True}, {"crop_mode": "squash"}),
    ],
)
def test_images_are_preprocessed_as_timm_does(
    settings: dict[str, Any], typed: dict[str, Any], same: dict[str, Any], tmp_path: Path
) -> None:
    """The pixels are equal; settings on the command line replace those of the weights."""
    import io

    import numpy as np
    from PIL import Image

    place = tmp_path / "model"
    recipe = {"mean": MEAN, "std": STD, "input_size": (3, 32, 32), **settings}
    save_for_hf(network(12, range(12)), str(place), model_config={"pretrained_cfg": recipe}, safe_serialization=True)
    loaded = load_pretrained(str(place), {})
    view, _ = view_of_timm(loaded, **{"crop": None, "resize": None, "squash": None, **typed})
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    seen = view.transform(Encoded(np.frombuffer(buffer.getvalue(), np.uint8), "x.png", ""), np.zeros(9))
    wanted = create_transform(**resolve_model_data_config(loaded.model) | same)(Image.fromarray(pixels))
    assert seen.dtype == torch.uint8 and tuple(seen.shape) == view.shape
    assert torch.allclose(view.to_input.float()(seen[None])[0], wanted, atol=1e-5)


def test_only_settings_on_the_command_line_override_the_weights_preprocessing(thousand: Path, colours: Colours) -> None:
    """Our default crop and resize do not override it; the same settings on the command line do."""
    assert "32x32 pixels" in evaluate(thousand, colours.root)[1]
    said = evaluate(thousand, colours.root, "data.crop=24", "data.resize=30", "data.resize_mode=squash")[1]
    assert "24x24 pixels, crop_pct 0.7869 (squash)" in said
    for typed, named in (("data.pack=/nowhere", "data.pack"), ("data.transforms=pil", "data.transforms")):
        with pytest.raises(UserError, match=rf"^{named} cannot be used with timm's own weights"):
            evaluate(thousand, colours.root, typed)
    for typed, words in (("data.eval_crop=24", "give data.crop"), ("data.interpolation=bicubic", "which come with")):
        with pytest.raises(
            UserError, match=rf"^{typed.partition('=')[0]} has no effect on timm's own weights.*{words}"
        ):
            evaluate(thousand, colours.root, typed)
    with pytest.raises(UserError, match=r"^data=fashion_mnist cannot be used with timm's own weights"):
        evaluate(thousand, colours.root, "data=fashion_mnist")


@pytest.mark.parametrize(
    ("source", "overrides", "sentence"),
    [
        ("timm:no_such_model", (), r"^timm cannot load timm:no_such_model with its weights \(Unknown model"),
        ("timm:resnet10t.nothing", (), "timm cannot load timm:resnet10t.nothing"),
        ("local-dir:/no/such/place", (), "timm cannot load local-dir:/no/such/place .*config.json"),
        ("{place}", ("data.crop=1", "data.resize=1", "+model.kwargs={{nonsense:1}}"), "timm cannot load"),
    ],
)
def test_weights_that_timm_cannot_load_are_refused(
    source: str, overrides: tuple[str, ...], sentence: str, thousand: Path, colours: Colours
) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluate(source.format(place=thousand), colours.root, *(override.format() for override in overrides))


@pytest.mark.parametrize("form", ["local-dir:{}", "model.name={}"])
def test_a_timm_directory_can_be_trained(form: str, thousand: Path, tmp_path: Path) -> None:
    """The model gets a head for the data's classes. A folder never hides a timm name."""
    word = f"model={form.format(thousand)}" if form.startswith("local") else form.format(thousand)
    config = compose_config([word, "logger=none"])
    assert "/" not in run_directory(config).name
    model: Any = build_model(config.model, 12, 3)
    assert model.fc.out_features == 12 and model.layer1[0].conv1.out_channels == KWARGS["channels"][0]
    (tmp_path / "resnet10t").mkdir()
    (tmp_path / "resnet10t" / "config.json").write_text("{}")
    with contextlib.chdir(tmp_path):
        assert timm_name("resnet10t") == "resnet10t" and timm_name("timm/x.y") == "hf-hub:timm/x.y"


def test_a_head_with_random_weights_is_refused(thousand: Path) -> None:
    with pytest.raises(UserError, match=r"has no head with the requested 7 classes: its weights have 1000\."):
        load_pretrained(str(thousand), {"num_classes": 7})


def test_real_labels_work_with_all_1000_classes(thousand: Path, tmp_path: Path) -> None:
    draw(tmp_path / "val", WNIDS[3], val_colours(3), stem="ILSVRC2012_val_{:08d}")
    (tmp_path / "real.json").write_text(json.dumps([[NUMBERS[3], 5], [6]]))
    result, _ = evaluate(thousand, tmp_path, real_labels=tmp_path / "real.json")
    assert (result["val/acc1"], result["real/acc1"], result["real/images"]) == (100, 50, 2)
    assert ALL_WNIDS[NUMBERS[3]] == WNIDS[3]
