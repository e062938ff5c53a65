"""timm models: removing batch norms or skip connections, loading weights, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from ranger21.config import ModelConfig
from ranger21.config.model import INITIALIZATIONS
from ranger21.models.build import build_model, initialize, load_weights
from ranger21.system.errors import UserError


def make(
    name: str, classes: int = 10, channels: int = 3, remove: bool = False, remove_skips: bool = False, **kwargs: object
) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelConfig(name, remove, dict(kwargs), None, remove_skips), classes, channels)


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU)


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "mobilenetv3_small_050"])
def test_removing_batch_norms_keeps_the_activations(name: str) -> None:
    plain, bare = make(name), make(name, remove=True)
    assert any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in plain.modules())
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in bare.modules())
    count = [sum(isinstance(module, ACTIVATIONS) for module in model.modules()) for model in (plain, bare)]
    assert count[0] == count[1] > 5
    assert not [key for key in bare.state_dict() if "running_" in key]
    bare.train()
    logits = bare(torch.randn(2, 3, 64, 64))
    logits.sum().backward()
    assert logits.shape == (2, 10) and logits.isfinite().all() and logits.abs().sum() > 0
    without = [key for key, p in bare.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def stacked(model: nn.Module) -> nn.Sequential:
    """Build a ResNet without skip connections by hand: its layers in sequence."""
    m: Any = model
    layers = [m.conv1, m.bn1, m.act1, m.maxpool]
    for block in (block for stage in (m.layer1, m.layer2, m.layer3, m.layer4) for block in stage):
        layers += [block.conv1, block.bn1, block.act1]
        layers += [block.conv2, block.bn2, block.act2]
        layers += [block.conv3, block.bn3, block.act3] if hasattr(block, "conv3") else []
    return nn.Sequential(*layers, m.global_pool, m.fc)


@pytest.mark.parametrize("name", ["resnet10t", "resnet50"])
@pytest.mark.parametrize("remove", [False, True])
def test_without_skips_a_resnet_is_a_stack_of_layers(name: str, remove: bool) -> None:
    """The outputs equal the stack's, every weight has a gradient, and the skips made a difference."""
    plain, bare = make(name, remove=remove), make(name, remove=remove, remove_skips=True)
    assert not [key for key in bare.state_dict() if "downsample" in key]
    images = torch.randn(4, 3, 64, 64)
    for model in (plain, bare):
        model.train()
    logits = bare(images)
    assert torch.equal(logits, stacked(bare)(images))
    assert not torch.allclose(logits, plain(images), atol=1e-4)
    for model in (plain, bare):  # the gradients differ as well, from the first step
        model(images).square().sum().backward()
    assert [key for key, p in bare.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert not torch.allclose(*(next(model.parameters()).grad for model in (plain, bare)))  # type: ignore[arg-type]


def test_only_a_resnet_has_skips_to_remove() -> None:
    sentence = (
        r"^model.remove_skips=true cannot be used with model=nf_resnet26\. It needs one of timm's ResNets, such as "
    )
    with pytest.raises(UserError, match=sentence):
        make("nf_resnet26", remove_skips=True)


class Blurred(nn.Module):
    """A convolution of the image that a binomial filter has blurred, in one convolution for each channel."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
        blur = nn.functional.conv2d
        return self.conv(torch.cat([blur(one, weights[None, None], padding=1) for one in x.split(1, dim=1)], dim=1))


def test_blur_pooling_is_that_of_ffcv_imagenet() -> None:
    """Against torchvision's ResNet, with each strided convolution but the first replaced by hand."""
    settings = ModelConfig("resnet50", False, {"layers": [1, 1, 1, 1], "zero_init_last": False}, None, blur_pool=True)
    ours, plain = build_model(settings, 10, 3), build_model(replace(settings, blur_pool=False), 10, 3)
    theirs = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10)
    theirs.load_state_dict(plain.state_dict())
    with pytest.raises(RuntimeError, match=r"layer2\.0\.conv2"):  # the weights' names differ
        plain.load_state_dict(ours.state_dict())
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        block: Any = stage[0]
        block.conv2, block.downsample[0] = Blurred(block.conv2), Blurred(block.downsample[0])
    images = torch.randn(2, 3, 64, 64)
    for model in (ours, plain, theirs):
        model.eval()
    assert torch.allclose(ours(images), theirs(images), atol=1e-5)
    assert not torch.allclose(ours(images), plain(images), atol=1e-2)


@pytest.mark.parametrize("name", INITIALIZATIONS[1:])
def test_an_initialization_is_torchs_for_convolutions_and_linear_layers_alone(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig("resnet10t", False, {}, None, init=name), 10, 3)
    torch.manual_seed(0)
    expected = build_model(ModelConfig("resnet10t", False, {}, None), 10, 3)
    before = {key: value.clone() for key, value in expected.state_dict().items()}
    for module in expected.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = {"nonlinearity": "relu"} if "kaiming" in name else {}
            getattr(nn.init, f"{name}_")(module.weight, **gain)
    own = model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.state_dict().items())
    changed = {key for key in own if not torch.equal(own[key], before[key])}
    assert "fc.weight" in changed and "conv1.0.weight" in changed and "fc.bias" not in changed
    assert not [key for key in changed if "bn" in key]


def test_an_initialization_that_would_change_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"init=xavier_normal would have no effect, because model\.init_from=x\.pt"):
        ModelConfig("resnet10t", False, {}, "x.pt", init="xavier_normal")
    with pytest.raises(UserError, match=r"has no convolutional or linear layers: use model\.init=default"):
        initialize(nn.BatchNorm2d(3), ModelConfig("norms", False, {}, None, init="xavier_normal"))


def test_blur_pooling_that_would_change_nothing_is_refused() -> None:
    narrow = {"channels": [8, 8, 8, 8], "stem_width": 8}
    with pytest.raises(UserError, match=r"^model.blur_pool=true would have no effect, because model=resnet10t has no "):
        build_model(ModelConfig("resnet10t", False, narrow, None, blur_pool=True), 10, 3)


def test_models_that_timm_refuses_are_reported() -> None:
    with pytest.raises(UserError, match=r"^model=efficentnet_b0 does not exist, .* Similar names: efficientnet_b0, "):
        make("efficentnet_b0")
    for kwargs in ({"depth": 5}, {"act_layer": "nope"}, {"block_args": 3}, {"stem_width": -1}):
        with pytest.raises(UserError, match=r"^timm cannot build model=resnet10t with model.kwargs=.*\w"):
            make("resnet10t", **kwargs)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet10t", ["fc.bias", "fc.weight"]),
        ("mobilenetv3_small_050", ["classifier.bias", "classifier.weight"]),
        ("deit_tiny_distilled_patch16_224", ["head.bias", "head.weight", "head_dist.bias", "head_dist.weight"]),
    ],
)
def test_a_head_of_another_size_stays_fresh(name: str, head: list[str]) -> None:
    source, target = make(name).state_dict(), make(name, classes=7)
    with torch.no_grad():
        for value in source.values():
            value.copy_(value + 1)
    before = {key: target.state_dict()[key].clone() for key in head}
    assert load_weights(target, source, "w.pt") == head
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key] if key in head else source[key]), key


def test_weights_that_differ_beyond_the_head_are_refused() -> None:
    weights = make("resnet10t").state_dict()
    assert load_weights(make("resnet10t"), weights, "w.pt") == []
    wider = make("resnet10t", channels=1)
    before = {key: value.clone() for key, value in wider.state_dict().items()}
    fewer = {key: value for key, value in weights.items() if key != "fc.bias"}
    for model, given, text in (
        (wider, weights, "1 tensors differ, such as conv1.0.weight"),
        (make("resnet10t"), fewer, "1 tensors differ, such as fc.bias"),
        (make("resnet10t"), weights | {"fc.extra": torch.zeros(1)}, "1 tensors differ, such as fc.extra"),
        (make("resnet10t", remove=True), weights, r"\d+ tensors differ, such as bn1.bias"),
    ):
        with pytest.raises(UserError, match=rf"^The weights in w.pt do not fit this model: {text}\.$"):
            load_weights(model, given, Path("w.pt"))
    assert all(torch.equal(value, before[key]) for key, value in wider.state_dict().items())
