"""The types and ranges of `optimizer`, with one class for all optimizers that have the same arguments."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from ranger21.config.ranges import require_ranges
from ranger21.optim.ranges import (
    ABOVE_0,
    AGC_CLIPPING,
    AGC_EPS,
    AT_LEAST_0,
    BETAS,
    COUNT_OR_0,
    EPS,
    FRACTION,
    INNER_FRACTION,
    LEARNING_RATE,
    LOOKAHEAD_BETA,
    PNM_BETA,
    STABLE_DECAY,
    STATE,
    WEIGHT_DECAY,
    below,
    or_none,
)
from ranger21.system.checks import COUNT, NAMED
from ranger21.system.errors import UserError

# Their product, times the factor of lr_scaling, stays within float32.
LR, DECAY = below(LEARNING_RATE, 1e30), below(WEIGHT_DECAY, 1e10)
K = below(COUNT_OR_0, COUNT)  # steps between merges of lookahead; 0: no lookahead
NORM = or_none(ABOVE_0)
CLIPPING = or_none(AGC_CLIPPING)


@dataclass
class OptimizerConfig:
    """The settings that all optimizers have."""

    name: str
    lr: Annotated[float, LR]
    weight_decay: Annotated[float, DECAY]
    decay_norm_and_bias: bool

    def __post_init__(self) -> None:
        require_ranges(self, "optimizer")


@dataclass
class Ranger21Config(OptimizerConfig):
    betas: Annotated[list[float], BETAS]
    pnm_beta: Annotated[float, PNM_BETA]
    eps: Annotated[float, EPS]
    agc_clipping: Annotated[float | None, CLIPPING]
    agc_eps: Annotated[float, AGC_EPS]
    centralize: bool
    pnm: bool
    stable_decay: Annotated[str | None, STABLE_DECAY]
    norm_loss: bool
    lookahead_k: Annotated[int, K]
    lookahead_beta: Annotated[float, LOOKAHEAD_BETA]
    fused: bool | None = field(default=None, metadata=NAMED)


@dataclass
class OfficialConfig(OptimizerConfig):
    state: Annotated[str, STATE]
    betas: Annotated[list[float], BETAS]
    eps: Annotated[float, EPS]
    agc_clipping: Annotated[float, AGC_CLIPPING]
    agc_eps: Annotated[float, AGC_EPS]
    lookahead_k: Annotated[int, K]
    lookahead_beta: Annotated[float, LOOKAHEAD_BETA]


@dataclass
class ChainConfig(OptimizerConfig):
    """A chain of parts."""

    parts: Any  # a list with the name of each part, or a mapping with its name and arguments

    def __post_init__(self) -> None:
        super().__post_init__()
        from ranger21.optim.recipe import describe  # imported here because it needs torch

        try:
            self.parts = describe(self.parts)
        except ValueError as error:
            raise UserError(f"optimizer.parts: {error}") from error


@dataclass
class OwnChainConfig(ChainConfig):
    """A user's own chain, which the fused step may support; it does not support the predefined chains."""

    fused: bool | None = field(default=None, metadata=NAMED)


@dataclass
class LibraryConfig(OptimizerConfig):
    """An optimizer of torch or timm, optionally wrapped in Lookahead."""

    lookahead_k: Annotated[int, K]
    lookahead_beta: Annotated[float, LOOKAHEAD_BETA]


@dataclass
class AdamConfig(LibraryConfig):
    betas: Annotated[list[float], BETAS]
    eps: Annotated[float, EPS]


@dataclass
class RAdamConfig(AdamConfig):
    decoupled_weight_decay: bool


@dataclass
class LambConfig(AdamConfig):
    max_grad_norm: Annotated[float | None, NORM]
    always_adapt: bool


@dataclass
class LionConfig(LibraryConfig):
    betas: Annotated[list[float], BETAS]


@dataclass
class AdagradConfig(LibraryConfig):
    eps: Annotated[float, EPS]
    initial_accumulator_value: Annotated[float, AT_LEAST_0]


@dataclass
class AdadeltaConfig(LibraryConfig):
    rho: Annotated[float, FRACTION]
    eps: Annotated[float, EPS]


@dataclass
class RMSpropConfig(LibraryConfig):
    alpha: Annotated[float, FRACTION]
    eps: Annotated[float, EPS]
    momentum: Annotated[float, FRACTION]


@dataclass
class MomentumConfig(LibraryConfig):
    momentum: Annotated[float, INNER_FRACTION]


@dataclass
class LarsConfig(MomentumConfig):
    trust_coeff: Annotated[float, ABOVE_0]
    eps: Annotated[float, EPS]
    always_adapt: bool


OPTIMIZERS: dict[str, type] = {
    "ranger21": Ranger21Config,
    "ranger21_official": OfficialConfig,
    "ranger": ChainConfig,
    "rangerlars": ChainConfig,
    "paratrooper": ChainConfig,
    "muon": ChainConfig,
    "chain": OwnChainConfig,
    "adamw": AdamConfig,
    "adam": AdamConfig,
    "radam": RAdamConfig,
    "adagrad": AdagradConfig,
    "adadelta": AdadeltaConfig,
    "rmsprop": RMSpropConfig,
    "gd": LibraryConfig,
    "momentum": MomentumConfig,
    "nesterov": MomentumConfig,
    "sgdw": MomentumConfig,
    "lars": LarsConfig,
    "larc": LarsConfig,
    "lamb": LambConfig,
    "lion": LionConfig,
}
