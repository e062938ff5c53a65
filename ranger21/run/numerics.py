"""Set torch's switches for TensorFloat-32, cuDNN's choice of kernels, and deterministic algorithms."""

import contextlib
import os
from collections.abc import Iterator

import torch

from ranger21.config import TrainerConfig
from ranger21.system.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE = (":4096:8", ":16:8")  # with these, cuBLAS is deterministic


@contextlib.contextmanager
def computing(config: TrainerConfig) -> Iterator[None]:
    """Set torch's switches according to `trainer`, and restore them on exit. Enter this context before CUDA starts.

    The size of cuBLAS's workspace stays set, because a process reads it only once.

    Raises a UserError if `trainer.deterministic` cannot be applied, or if an operation has no deterministic
    implementation.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if config.deterministic:
        _choose_workspace()
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = config.tf32
        cudnn.benchmark, cudnn.deterministic = bool(config.cudnn_benchmark), config.deterministic
        torch.use_deterministic_algorithms(config.deterministic)
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not (config.deterministic and found):
            raise
        raise UserError(
            f"trainer.deterministic=true: {operation} has no deterministic implementation in torch "
            f"{torch.__version__}. Choose a model that does not use it, or trainer.deterministic=false."
        ) from error
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])


def _choose_workspace() -> None:
    chosen = os.environ.get(WORKSPACE)
    if chosen is None and torch.cuda.is_initialized():
        raise UserError(
            f"trainer.deterministic=true needs {WORKSPACE}={REPEATABLE[0]} before CUDA starts, but CUDA is already in "
            "use in this process. Set the variable before you start, or do not use -m."
        )
    if os.environ.setdefault(WORKSPACE, REPEATABLE[0]) not in REPEATABLE:
        raise UserError(
            f"trainer.deterministic=true conflicts with {WORKSPACE}={chosen}: unset it, or set {REPEATABLE[0]}."
        )
