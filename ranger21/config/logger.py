"""The types and ranges of `logger`."""

from dataclasses import dataclass

from ranger21.config.checks import require_choice


@dataclass
class LoggerConfig:
    name: str


@dataclass
class WandbConfig(LoggerConfig):
    mode: str | None
    project: str | None
    entity: str | None
    group: str | None
    tags: list[str]
    run_name: str | None

    def __post_init__(self) -> None:
        if self.mode is not None:
            require_choice("logger.mode", self.mode, ("offline", "online"))
