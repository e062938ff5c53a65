"""The settings of `logger=[a,b]`: several loggers at once."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.tracking.loggers.base import LoggerConfig


@dataclass
class Several(LoggerConfig):
    """The base of the settings of several loggers, whose fields are the loggers' names."""

    def members(self) -> list[LoggerConfig]:
        values = [getattr(self, field.name) for field in fields(self) if field.name != "name"]
        return [value for value in values if value is not None]

    def require_possible(self, directory: Path, experiment: str) -> None:
        if not self.members():
            raise UserError("logger=several names no logger: type, for example, 'logger=[wandb,tensorboard]'.")
        for member in self.members():
            with member_named(member.name):
                member.require_possible(directory, experiment)


def several(loggers: Mapping[str, type[LoggerConfig]]) -> type[Several]:
    """Return the class whose fields are these loggers; a field is None if the logger was not chosen."""
    return make_dataclass("SeveralConfig", [(name, Any, None) for name in loggers], bases=(Several,))


@contextlib.contextmanager
def member_named(name: str) -> Iterator[None]:
    """Let error messages about `logger.KEY` name `logger.NAME.KEY`, the key of one of several loggers."""
    try:
        yield
    except UserError as error:
        text = str(error)
        if not text.startswith("logger.") or text.startswith(f"logger.{name}."):
            raise
        raise UserError(f"logger.{name}.{text.removeprefix('logger.')}") from error
