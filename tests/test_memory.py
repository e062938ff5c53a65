"""Running out of memory, for real, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.command_runner import CommandRunner

from ranger21.data.images import ImageBatch
from ranger21.data.on_device import ToInput
from ranger21.engine.evaluation import evaluate
from ranger21.engine.precision import Precision
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.memory import enough_memory, lacks_memory

HUGE = 10**14  # bytes
LACKS = {
    "torch": lambda: torch.empty(HUGE, dtype=torch.uint8),
    "numpy": lambda: np.ones(HUGE, dtype=np.uint8),
    "python": lambda: bytearray(HUGE),
}


@pytest.mark.parametrize("how", LACKS)
def test_out_of_memory_of_each_allocator_becomes_a_user_error(how: str) -> None:
    message = r"^There is not enough memory for a test \(.+\): try less\.$"
    with pytest.raises(UserError, match=message), enough_memory("a test", "less"):
        LACKS[how]()


def test_cuda_and_mps_messages_are_recognized_and_other_errors_pass() -> None:
    """The messages are copied, because the tests have no such devices."""
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.5 GB, max allowed: 9 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
    ):
        assert lacks_memory(error)
    for other in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(28, "No space left on device")):
        with pytest.raises(type(other)), enough_memory("a test", "less"):
            raise other


def test_out_of_memory_in_validation_suggests_a_smaller_eval_batch() -> None:
    world, labels = World(0, 1, 0, 1, torch.device("cpu")), torch.zeros(3, dtype=torch.int64)
    batch = ImageBatch(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), None, labels, [])
    to_input = ToInput((0.5,) * 3, (0.5,) * 3).float()

    def model(images: torch.Tensor) -> torch.Tensor:
        return torch.empty(HUGE)

    message = r"for a validation in batches of 3 images, in fp32 on cpu .*: try a smaller data\.eval_batch_size"
    with pytest.raises(UserError, match=message):
        evaluate(model, [batch], to_input, world, Precision("fp32", world.device), 0.0)


@pytest.mark.parametrize("command", ["train.py run_dir=run", "find_lr.py --out lr.png"])
def test_a_model_larger_than_memory_is_refused(command: str, commands: CommandRunner, images: Path) -> None:
    """The model's second convolution alone would need 36 terabytes."""
    line = f"{command} data=imagenet data.root={images} data.resize=36 data.crop=32 data.batch_size=16 logger=none "
    line += "trainer.device=cpu data.workers=0 model=resnet10t +model.kwargs.stem_width=1000000"
    answer = commands.run(line, {})
    assert answer.code == 1 and "Traceback" not in answer.err, answer.err
    assert "error: There is not enough memory for training with data.batch_size=16, trainer.accumulate=1" in answer.err
