"""Steps of the real training loop on a fake CUDA device: the host reads nothing and waits for no copy.

This shows what the host does, but not what a device computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
from support.fake_cuda import CPU, CUDA, TransferGuard, fake_cuda
from torch import Tensor, nn

from ranger21.config import VARIANTS, Config
from ranger21.config.compose import compose_config, composing
from ranger21.data.images import ImageBatch
from ranger21.data.late import Late
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.engine import loop
from ranger21.engine.clock import Clock
from ranger21.engine.meters import Meter, NonFinite
from ranger21.engine.parts import TrainSetup, TrainState
from ranger21.engine.precision import choose_precision
from ranger21.engine.undo import Undo
from ranger21.models.build import memory_format
from ranger21.optim.fused.tables import upload
from ranger21.run.loss import training_loss
from ranger21.run.optimizers import build_optimizer, build_schedule
from ranger21.run.plan import make_plan
from ranger21.system.distributed import World, choose_device
from ranger21.system.errors import UserError

IMAGES, STEPS = 640, 3  # the second step is logged


def batches(config: Config) -> Iterator[ImageBatch]:
    """Yield batches on the CPU, as the loaders make them."""
    count = config.data.batch_size // config.trainer.accumulate
    while True:
        images = torch.empty(count, 32, 32, 3, dtype=torch.uint8, device=CPU).permute(0, 3, 1, 2)
        rows: Tensor | Late = torch.empty(count, 7, device=CPU)
        if config.data.mixes:
            boxes = torch.empty(count, 4, dtype=torch.int32, device=CPU)
            rows = Late(rows, boxes, torch.empty(count // 2, 6, device=CPU))
        yield ImageBatch(images, rows, torch.empty(count, dtype=torch.int64, device=CPU), [])


def build(config: Config) -> tuple[TrainSetup, TrainState]:
    """Build the parts of a run on the fake device, like `ranger21.run.build`."""
    world = World(rank=0, size=1, local_rank=0, local_size=1, device=CUDA)
    precision, plan = choose_precision(config.trainer.precision, CUDA), make_plan(config, IMAGES)
    shape = memory_format(config.trainer.channels_last)
    with CUDA:
        model = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 10)),
        )
        for module in model.modules():  # parameters without contents cannot be moved
            for name, param in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(param.detach().to(precision.weights)))
    optimizer = build_optimizer(params=model.parameters(), **vars(config.optimizer))
    setup = TrainSetup(
        world=world,
        model=model.train(),
        batches=batches(config),  # type: ignore[arg-type]
        to_input=ToInput(IMAGENET_MEAN, IMAGENET_STD).to(CUDA, precision.weights),
        schedule=build_schedule(config.schedule, plan.course),
        precision=precision,
        plan=plan,
        seed=0,
        loss=training_loss(config.trainer),
        memory_format=shape,
        undo=Undo(model, optimizer) if config.trainer.on_nonfinite == "skip" else None,
    )
    return setup, TrainState(model, optimizer, precision.scaler(), Meter(world), NonFinite(world))


def run(overrides: list[str], patch: pytest.MonkeyPatch, steps: int = STEPS) -> TransferGuard:
    """Take some steps on the fake device; return the guard that watched them. Raises if the host would wait."""
    config = compose_config(["trainer.log_every_steps=2", *overrides])
    with fake_cuda(patch):
        setup, state = build(config)
        clock = Clock(0.0, None)
        watch = TransferGuard([ImageBatch.to, upload], [torch.amp.GradScaler._maybe_opt_step])
        with watch:
            for step in range(1, steps + 1):
                loop.take_step(setup, state, step, clock)
    assert next(state.model.parameters()).device == CUDA and state.optimizer.state
    parts = 5 if config.data.mixes else 3  # images, augmentation rows and labels; boxes and pairs
    assert watch.copied["to"] == parts * steps * config.trainer.accumulate
    groups = len(state.optimizer.param_groups)
    assert watch.copied["upload"] in range(0, 4 * groups + 1, 4)  # once per group with a fused step
    return watch


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with composing():
        yield


@pytest.mark.parametrize("optimizer", VARIANTS["optimizer"])
def test_the_host_never_waits_with_any_optimizer(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step has two passes and may be skipped; one step merges lookahead's weights."""
    merge = (
        ["optimizer.lookahead_k=2"]
        if "lookahead_k" in {f.name for f in fields(VARIANTS["optimizer"][optimizer])}
        else []
    )
    more = ["trainer.on_nonfinite=skip", "trainer.accumulate=2", *merge]
    assert run([f"optimizer={optimizer}", *more], monkeypatch).read == 0


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_the_host_never_waits_for_erased_and_mixed_images(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = ["data.mixup=0.2", "data.erase=0.5", f"trainer.loss={loss}", "trainer.on_nonfinite=skip"]
    assert run(["optimizer=ranger21", *more], monkeypatch).read == 0


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64", "fp16"])
@pytest.mark.parametrize("optimizer", ["ranger21", "adamw"])
@pytest.mark.parametrize("undo", ["stop", "skip"])
def test_the_host_waits_in_no_precision_except_for_torchs_gradient_scaler(
    precision: str, optimizer: str, undo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaler reads once per step whether to take it, unless the optimizer decides that itself."""
    overrides = [f"trainer.precision={precision}", f"optimizer={optimizer}", f"trainer.on_nonfinite={undo}"]
    read = run([*overrides, "optimizer.lookahead_k=2"], monkeypatch).read
    assert read == (STEPS if precision == "fp16" and optimizer != "ranger21" else 0)


def unlike(one: Callable[..., Any], then: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """Return a function that calls `one`, then `then` on the result."""

    def changed(*args: Any) -> Any:
        found = one(*args)
        then(found)
        return found

    return changed


@pytest.mark.parametrize(
    "look",
    [
        Tensor.item, bool, float, Tensor.tolist, Tensor.cpu, torch.nonzero, Tensor.numpy,
        lambda t: t.to("cpu", non_blocking=True), lambda t: torch.empty(2, 2, device=CPU).to(t.device),
        lambda t: torch.tensor([1.0, 2.0], device=t.device), lambda t: torch.zeros(2, device=t.device)[torch.arange(2)],
        lambda t: t.copy_(torch.zeros((), device=CPU)), lambda t: t if t > 0 else None,
        lambda t: torch.empty(2, device=CPU).to(t.device, non_blocking=True),
    ],
)  # fmt: skip
def test_the_guard_notices_every_read_and_blocking_copy(
    look: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "forward_backward", unlike(loop.forward_backward, look))
    with pytest.raises((AssertionError, RuntimeError, TypeError)) as caught:
        run([], monkeypatch, steps=1)
    assert any(entry.name == "changed" for entry in caught.traceback)


def test_a_rank_takes_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing GPU, and one GPU for all ranks, are refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    taken = [
        choose_device(name, rank) for name, rank in (("auto", 0), ("cuda", 3), ("cuda", 5), ("cuda:2", 0), ("cpu", 1))
    ]
    assert list(map(str, taken)) == ["cuda:0", "cuda:3", "cuda:1", "cuda:2", "cpu"]
    with pytest.raises(UserError, match=r"trainer.device=cuda:4: there are 4 CUDA devices, counted from 0"):
        choose_device("cuda:4", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="would put every rank on the same GPU"):
        choose_device("cuda:1", 0)


def test_a_gpu_without_bf16_gets_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An old GPU")
    for has_bf16, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has_bf16: has)
        assert choose_precision("auto", CUDA).name == choose_precision("bf16", CUDA).name == expected
    assert choose_precision("fp32", CUDA).name == "fp32" and choose_precision("auto", CPU).name == "fp32"
