"""The types and ranges of `trainer`."""

import re
from dataclasses import dataclass, field

from ranger21.config.schedules import require_duration
from ranger21.system.checks import COUNT, NAMED, NEUTRAL, require, require_choice, require_number
from ranger21.system.errors import UserError

LONGEST_PROFILE = 100  # steps


@dataclass
class TrainerConfig:
    epochs: int
    steps: int | None
    label_smoothing: float
    precision: str
    tf32: bool
    on_nonfinite: str
    eval_every_epochs: int
    accumulate: int  # not neutral: batch norm and dropout act on one pass, not on the whole batch
    device: str = field(metadata=NEUTRAL)
    channels_last: bool = field(metadata=NAMED)
    cudnn_benchmark: bool | None = field(metadata=NAMED)  # None: on unless `deterministic`
    compile: bool = field(metadata=NAMED)
    log_every_steps: int = field(metadata=NEUTRAL)
    checkpoint_every_steps: int | None = field(metadata=NEUTRAL)
    checkpoint_every_minutes: float | None = field(metadata=NEUTRAL)
    # Older runs lack these keys.
    deterministic: bool = field(default=False, metadata=NAMED)
    grad_checkpointing: bool = field(default=False, metadata=NAMED)
    profile: int = field(default=0, metadata=NEUTRAL)
    eval_every_steps: int | None = None
    final_validation: bool = True
    loss: str = "cross_entropy"
    clip_grad_norm: float | None = None
    ema: float | None = None
    layer_decay: float | None = None
    batch_norm: str = "first_rank"
    batch_norm_images: int | None = None
    keep_every: str | None = field(default=None, metadata=NEUTRAL)

    def __post_init__(self) -> None:
        counts = ("epochs", "eval_every_epochs", "accumulate", "log_every_steps")
        for name in (*counts, "steps", "eval_every_steps", "checkpoint_every_steps", "batch_norm_images"):
            if getattr(self, name) is not None:
                require_number(f"trainer.{name}", getattr(self, name), 1, COUNT)
        if self.checkpoint_every_minutes is not None:
            require_number("trainer.checkpoint_every_minutes", self.checkpoint_every_minutes, 0, open_low=True)
        if self.keep_every is not None:
            require_duration("trainer.keep_every", self.keep_every, some=True)
        require_number("trainer.label_smoothing", self.label_smoothing, 0, 1)
        require_choice("trainer.precision", self.precision, ("auto", "bf16", "fp16", "fp32", "fp64"))
        require_choice("trainer.loss", self.loss, ("cross_entropy", "bce"))
        if self.clip_grad_norm is not None:
            require_number("trainer.clip_grad_norm", self.clip_grad_norm, 0, open_low=True)
        if self.ema is not None:
            require_number("trainer.ema", self.ema, 0, 1, open_low=True)
        if self.layer_decay is not None:
            require_number("trainer.layer_decay", self.layer_decay, 0, 1, open_low=True)
        require_choice("trainer.batch_norm", self.batch_norm, ("first_rank", "mean", "sync"))
        if self.batch_norm == "mean" and self.batch_norm_images is not None:
            raise UserError(
                "trainer.batch_norm=mean would have no effect, because with trainer.batch_norm_images="
                f"{self.batch_norm_images} the statistics are recomputed before each validation: omit one of the two."
            )
        require_choice("trainer.on_nonfinite", self.on_nonfinite, ("stop", "skip"))
        require_number("trainer.profile", self.profile, 0, LONGEST_PROFILE + 1)
        if self.cudnn_benchmark is None:
            self.cudnn_benchmark = not self.deterministic
        if self.deterministic and self.cudnn_benchmark:
            raise UserError(
                "trainer.deterministic=true and trainer.cudnn_benchmark=true contradict each other, as benchmarking "
                "chooses kernels by measured times: add trainer.cudnn_benchmark=false, or omit one of the two."
            )
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, "trainer.device", self.device, "auto, cpu, cuda, cuda:N or mps")
