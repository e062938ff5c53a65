"""W&B's dashboard of this project: the panels of `ranger21.tracking.panels`, each a mean with its spread over seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from ranger21.config import VARIANTS, Config
from ranger21.system.errors import UserError
from ranger21.system.wording import reason
from ranger21.tracking.panels import PANELS, TRAINING, Panel

NAME = "Ranger21"
AXIS = "epoch"
COLUMNS = ("best/holdout/acc1", "best/val/acc1", "best/epoch", "val/acc1")  # of the runs' table
# What sets runs apart, as a rule, besides their seed.
GROUPS = ("optimizer.name", "schedule.name", "model.name", "model.remove_batch_norm", "model.remove_skips")
SPREAD = "stddev"  # or stderr: between the seeds of a group
SMOOTHING = 0.6  # of the training's panels, where the epoch counts and not the single batch


def build(groups: Sequence[str] = GROUPS, spread: str = SPREAD, name: str = NAME, target: str = "/") -> Any:
    """The workspace, as wandb-workspaces has it, of the project `target` (ENTITY/PROJECT). Nothing is sent.

    Runs that agree in all of `groups`, dotted keys of the configuration, are one line with a band.
    """
    if unknown := sorted({*groups} - known_keys()):
        near = "optimizer.name, schedule.name, data.batch_size"
        raise UserError(f"{unknown[0]} is no key of the configuration to group by: choose such as {near}.")
    ws, _, expr = _library()
    entity, _, project = target.partition("/")
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                name=section,
                is_open=True,
                panels=[_plot(panel, spread) for panel in PANELS if panel.section == section],
                layout_settings=ws.SectionLayoutSettings(columns=2, rows=2),
                panel_settings=ws.SectionPanelSettings(x_axis=AXIS),
            )
            for section in dict.fromkeys(panel.section for panel in PANELS)
        ],
        settings=ws.WorkspaceSettings(x_axis=AXIS, max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config(key) for key in groups], pinned_columns=[f"summary:{metric}" for metric in COLUMNS]
        ),
    )


def definition(workspace: Any) -> dict[str, Any]:
    """What saving would send, but for the random ids: for people, and for comparing."""
    view = workspace._to_model()  # what is public only saves
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"displayName": view.display_name, "spec": _without_ids(spec)}


def publish(workspace: Any) -> str:
    """Saves it as a new view of its project and returns its address. Needs the network and a key of W&B's."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        return str(workspace.save().url)
    except Exception as error:  # of the network's, W&B's, or the library's own
        raise UserError(
            f"the workspace was not saved in {workspace.entity}/{workspace.project} ({reason(error)}): log in with "
            "`wandb login`, on a machine that reaches the internet, and name a project of yours as ENTITY/PROJECT."
        ) from error


def known_keys() -> set[str]:
    """The dotted keys of every configuration that can be."""
    keys, hints = set[str](), get_type_hints(Config)
    for part in fields(Config):
        classes = VARIANTS[part.name].values() if part.name in VARIANTS else [hints[part.name]]
        for cls in classes:
            keys |= {f"{part.name}.{f.name}" for f in fields(cls)} if is_dataclass(cls) else {part.name}
    return keys


def _plot(panel: Panel, spread: str) -> Any:
    """One line plot. The runs' table groups, for all panels alike; a panel says what becomes of a group."""
    _, wr, _ = _library()
    smooth = {
        "smoothing_type": "exponentialTimeWeighted",
        "smoothing_factor": SMOOTHING,
        "smoothing_show_original": True,
    }
    return wr.LinePlot(
        title=panel.title,
        x=AXIS,
        y=[panel.metric],
        title_x=AXIS,
        title_y=panel.unit or panel.title,
        log_y=panel.log,
        groupby_aggfunc="mean",
        groupby_rangefunc=spread,
        **(smooth if panel.section == TRAINING else {"smoothing_type": "none"}),
    )


def _library() -> tuple[Any, Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr
    except ImportError as error:
        raise UserError(
            f"a W&B workspace needs wandb-workspaces ({error}): pip install -e '.[workspace]', or pip install "
            "wandb-workspaces."
        ) from error
    return ws, wr, expr


def _without_ids(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_ids(value) for key, value in tree.items() if key not in ("id", "__id__")}
    return [_without_ids(value) for value in tree] if isinstance(tree, list) else tree
