"""The error message for a training that runs out of memory. Imports no torch."""

import contextlib

from ranger21.config import Config
from ranger21.system.memory import enough_memory


def enough_to_train(config: Config, ranks: int, device: object) -> contextlib.AbstractContextManager[None]:
    """Return a context in which a lack of memory raises a UserError that names the settings to lower."""
    batch, passes, precision = config.data.batch_size, config.trainer.accumulate, config.trainer.precision
    what = f"training with data.batch_size={batch}, trainer.accumulate={passes} and trainer.precision={precision}"
    cures = [
        "a smaller data.batch_size",
        f"trainer.accumulate above {passes} (smaller passes; this affects batch norms)",
    ]
    cures += [] if config.trainer.grad_checkpointing else ["trainer.grad_checkpointing=true"]
    cures += ["no trainer.ema, which keeps a copy of the weights"] if config.trainer.ema else []
    cures += ["trainer.precision=bf16"] if precision in ("fp32", "fp64") else []
    return enough_memory(f"{what} on {device} x {ranks}", f"{', '.join(cures)}, more ranks, or a smaller model")
