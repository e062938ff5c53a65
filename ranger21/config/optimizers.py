"""The types and ranges of `optimizer`, with one class for all optimizers that have the same arguments."""

from dataclasses import dataclass, field
from typing import Any

from ranger21.system.checks import COUNT, NAMED, require, require_choice, require_number
from ranger21.system.errors import UserError


@dataclass
class OptimizerConfig:
    """The settings that all optimizers have."""

    name: str
    lr: float
    weight_decay: float
    decay_norm_and_bias: bool

    def __post_init__(self) -> None:
        # The limits keep lr * weight_decay, also with lr_scaling, within float32.
        require_number("optimizer.lr", self.lr, 0, 1e30)
        require_number("optimizer.weight_decay", self.weight_decay, 0, 1e10)


def require_betas(betas: list[float]) -> None:
    require(len(betas) == 2, "optimizer.betas", betas, "two numbers, such as [0.9,0.999]")
    for beta in betas:
        require_number("optimizer.betas", beta, 0, 1)


@dataclass
class Ranger21Config(OptimizerConfig):
    betas: list[float]
    pnm_beta: float
    eps: float
    agc_clipping: float | None
    agc_eps: float
    centralize: bool
    pnm: bool
    stable_decay: str | None
    norm_loss: bool
    lookahead_k: int
    lookahead_beta: float
    fused: bool | None = field(default=None, metadata=NAMED)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)
        require_number("optimizer.pnm_beta", self.pnm_beta, 0, 100)
        require_number("optimizer.eps", self.eps, 0)
        if self.agc_clipping is not None:
            require_number("optimizer.agc_clipping", self.agc_clipping, 0, open_low=True)
        require_number("optimizer.agc_eps", self.agc_eps, 0, open_low=True)
        scope = self.stable_decay
        require(scope in ("layer", "global", None), "optimizer.stable_decay", scope, "one of layer, global, null")
        require_number("optimizer.lookahead_k", self.lookahead_k, 0, COUNT)
        require_number("optimizer.lookahead_beta", self.lookahead_beta, 0, 1)


@dataclass
class OfficialConfig(OptimizerConfig):
    state: str
    betas: list[float]
    eps: float
    agc_clipping: float
    agc_eps: float
    lookahead_k: int
    lookahead_beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("optimizer.state", self.state, ("may2021", "july2021"))
        require_betas(self.betas)
        require_number("optimizer.eps", self.eps, 0)
        for name in ("agc_clipping", "agc_eps"):
            require_number(f"optimizer.{name}", getattr(self, name), 0, open_low=True)
        require_number("optimizer.lookahead_k", self.lookahead_k, 0, COUNT)
        require_number("optimizer.lookahead_beta", self.lookahead_beta, 0, 1)


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

    lookahead_k: int
    lookahead_beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.lookahead_k", self.lookahead_k, 0, COUNT)
        require_number("optimizer.lookahead_beta", self.lookahead_beta, 0, 1)


@dataclass
class AdamConfig(LibraryConfig):
    betas: list[float]
    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)
        require_number("optimizer.eps", self.eps, 0)


@dataclass
class RAdamConfig(AdamConfig):
    decoupled_weight_decay: bool


@dataclass
class LambConfig(AdamConfig):
    max_grad_norm: float | None
    always_adapt: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_grad_norm is not None:
            require_number("optimizer.max_grad_norm", self.max_grad_norm, 0, open_low=True)


@dataclass
class LionConfig(LibraryConfig):
    betas: list[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_betas(self.betas)


@dataclass
class AdagradConfig(LibraryConfig):
    eps: float
    initial_accumulator_value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.eps", self.eps, 0)
        require_number("optimizer.initial_accumulator_value", self.initial_accumulator_value, 0)


@dataclass
class RMSpropConfig(LibraryConfig):
    alpha: float
    eps: float
    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.alpha", self.alpha, 0, 1)
        require_number("optimizer.eps", self.eps, 0)
        require_number("optimizer.momentum", self.momentum, 0, 1)


@dataclass
class MomentumConfig(LibraryConfig):
    momentum: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.momentum", self.momentum, 0, 1, open_low=True)


@dataclass
class LarsConfig(MomentumConfig):
    trust_coeff: float
    eps: float
    always_adapt: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("optimizer.trust_coeff", self.trust_coeff, 0, open_low=True)
        require_number("optimizer.eps", self.eps, 0)


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
