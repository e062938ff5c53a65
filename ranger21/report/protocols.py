"""What was fixed before the runs of a comparison: their protocol."""

from __future__ import annotations

from dataclasses import fields

from ranger21.config.checks import require_types
from ranger21.config.protocol import ProtocolConfig
from ranger21.errors import UserError
from ranger21.report.runs import Run

NONE = ProtocolConfig().name


def protocol(run: Run) -> ProtocolConfig:
    """Return the protocol in a run's configuration; the one without a name where it has none, or none that can be."""
    values = {f.name: run.config[key] for f in fields(ProtocolConfig) if (key := f"protocol.{f.name}") in run.config}
    try:
        require_types(ProtocolConfig, values)
        return ProtocolConfig(**values)
    except (UserError, TypeError, ValueError):  # the file may be a stranger's
        return ProtocolConfig()
