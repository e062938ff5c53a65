"""The augmentation in Triton: interpreted, compiled without a GPU, counted on a fake GPU; copies to the device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ranger21.data import fused
from ranger21.data import images as module_of_batches
from ranger21.data.images import ImageBatch
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
from ranger21.gpu.traffic import Traffic


def test_the_kernels_pass_their_tests_in_tritons_interpreter(record_property: Callable) -> None:
    pytest.importorskip("triton")
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    args = ["-m", "pytest", "-n", "0", "-q", "-s", "-p", "no:cacheprovider", "tests/interpreted/augment.py"]
    done = subprocess.run([sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True)
    record_property("interpreted", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("dtype", "jittered", "most"),
    [(torch.float32, True, 0.08), (torch.bfloat16, True, 0.06), (torch.bfloat16, False, 0.04)],
)
def test_the_kernels_need_few_launches_and_bytes_for_64_images(
    dtype: torch.dtype, jittered: bool, most: float, record_property: Callable
) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        module = ToInput(IMAGENET_MEAN, IMAGENET_STD).to("cuda", torch.float32)
        images = torch.empty(64, 3, 256, 256, dtype=torch.uint8).to(memory_format=torch.channels_last)
        rows = torch.empty(64, 7) if jittered else None
        with Traffic() as before:
            reference = module.by_operations(images, rows, dtype)
        with Traffic() as after:
            made = fused.augment(images, rows, module.scale, module.shift, dtype, True)
    assert (made.shape, made.dtype, made.stride()) == (reference.shape, dtype, reference.stride())
    assert made.device.type == "cuda"
    record_property(
        "operations and GB",
        f"{before.launches} -> {after.launches} operations, {before.bytes / 1e9:.3f} -> {after.bytes / 1e9:.3f} GB",
    )
    assert list(after.names) == ["ranger21::augment_sums"] * jittered + ["ranger21::augment"]
    assert after.launches == 1 + jittered and after.bytes / 1e9 < most and (not jittered or before.launches > 50)


@pytest.mark.parametrize("chip", [75, 80, 90, 100])
def test_the_kernels_compile_without_a_gpu_and_spill_no_registers(
    chip: int, tmp_path: Path, record_property: Callable
) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ranger21.data import fused_kernels as kernels

    pointers = {"images": "*u8", "rows": "*fp32", "sums": "*i32", "scale": "*fp32", "shift": "*fp32", "made": "*bf16"}
    chosen = {"JITTER": True, "DTYPE": triton.language.bfloat16, "BLOCK": fused.BLOCK, "MOST": 64}
    for kernel in (kernels.grey_sums, kernels.to_input):
        constants = {name: chosen[name] for name in kernel.arg_names if name in chosen}
        types = {n: "constexpr" if n in chosen else pointers.get(n, "i32") for n in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=types, constexprs=constants)
        ptx = triton.compile(source, target=GPUTarget("cuda", chip, 32), options={"enable_fp_fusion": False}).asm["ptx"]
        assert "atom" not in ptx and "red.global" not in ptx
        if kernel is kernels.to_input and chip >= 80:
            assert "cvt.rn.bf16" in ptx, "rounded to the nearest"
        file = tmp_path / "kernel.ptx"
        file.write_text(ptx)
        tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
        tool = tools / ("ptxas-blackwell" if chip >= 100 else "ptxas")
        args = [tool, "-v", f"--gpu-name=sm_{chip}{'a' if chip >= 90 else ''}", file, "-o", os.devnull]
        told = subprocess.run(args, capture_output=True, text=True, check=True).stderr
        record_property(f"sm_{chip} {kernel.__name__}", re.findall(r"Used \d+ registers", told))
        assert re.findall(r"(\d+) bytes spill", told) == ["0", "0"], told


def test_the_cpu_and_a_fake_gpu_use_operations_instead_of_kernels() -> None:
    images, rows = fused.trial(6, 8, 8)
    module = ToInput(IMAGENET_MEAN, IMAGENET_STD).float()
    assert not fused.suits(images, module.scale, torch.float32)
    made = module(images, rows, torch.bfloat16, torch.channels_last)
    assert torch.equal(made, module(images, rows).bfloat16()) and made.is_contiguous(memory_format=torch.channels_last)
    assert module_of_batches.copying_stream(torch.device("cpu")) is None
    if not torch.cuda.is_available():
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert not fused.suits(
                torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="cuda"), module.scale, torch.float32
            )


def test_computing_waits_for_the_copy_and_the_memory_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU has no streams, so a stand-in records the order of the calls."""
    told = list[str]()

    class Stream:
        def __enter__(self) -> None:
            told.append("aside")

        def __exit__(self, *_: object) -> None:
            told.append("back")

        def wait_stream(self, other: object) -> None:
            assert other is side
            told.append("wait")

    class Told(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            told.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    side, computing = Stream(), Stream()
    monkeypatch.setattr(module_of_batches, "copying_stream", lambda device: side)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: computing)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: told.append("record"))
    batch = ImageBatch(
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 7), torch.zeros(2, dtype=torch.int64), []
    )
    with Told():
        made = batch.to(torch.device("meta"))
    assert told == ["aside", *["_to_copy"] * 3, "back", "wait", *["record"] * 3]
    assert {part.device.type for part in made if part is not None} == {"meta"}
