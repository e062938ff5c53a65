"""The W&B workspace (dashboard) of this project: every panel shows the mean and spread over seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from ranger21.config import VARIANTS, Config
from ranger21.system.errors import UserError
from ranger21.system.wording import reason
from ranger21.tracking.colours import OPTIMIZERS
from ranger21.tracking.panels import PANELS, TRAINING, Panel

NAME = "Ranger21"
AXIS = "epoch"
COLUMNS = ("best/holdout/acc1", "best/val/acc1", "best/epoch", "val/acc1")  # columns of the table of runs
# Settings in which runs usually differ, besides their seed.
GROUPS = ("optimizer.name", "schedule.name", "model.name", "model.remove_batch_norm", "model.remove_skips")
SWEPT = ("optimizer.lr", "optimizer.weight_decay")  # the axes of the parallel coordinates, before the result's
RESULTS = ("best/holdout/acc1", "best/val/acc1")  # what a sweep is judged by; a run without holdout has the second only
SPREAD = "stddev"  # the spread over the seeds of a group; or stderr
SMOOTHING = 0.6  # smoothing of training panels, whose values are noisy from batch to batch


def build(
    groups: Sequence[str] = GROUPS,
    spread: str = SPREAD,
    name: str = NAME,
    target: str = "/",
    swept: Sequence[str] = SWEPT,
) -> Any:
    """Build the workspace of the project `target` (ENTITY/PROJECT) with wandb-workspaces, without sending anything.

    Runs with equal values of all `groups` (dotted keys of the configuration) form one line with a band. Groups that
    begin with the optimizer have its colour. The values of `swept` are shown beside the results, in parallel
    coordinates.

    Raises a UserError for an unknown key, or if wandb-workspaces is missing.
    """
    _require_keys(groups, "group by")
    _require_keys(swept, "show the sweep of")
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
        ]
        + [ws.Section(name="Sweep", is_open=True, panels=[_parallel(swept, result) for result in RESULTS])],
        settings=ws.WorkspaceSettings(x_axis=AXIS, max_runs=100),
        runset_settings=ws.RunsetSettings(
            groupby=[expr.Config(key) for key in groups],
            group_colors=_colours(groups),
            pinned_columns=[f"summary:{metric}" for metric in COLUMNS],
        ),
    )


def definition(workspace: Any) -> dict[str, Any]:
    """Return the JSON that saving would send, without the random ids."""
    view = workspace._to_model()  # a private method, because the public ones only save
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    section = spec["section"]
    own = view.spec.section.run_sets[0].id  # also within the names of colours
    section["customRunColors"] = {name.replace(own, ""): value for name, value in section["customRunColors"].items()}
    return {"displayName": view.display_name, "spec": _without_ids(spec)}


def publish(workspace: Any) -> str:
    """Save the workspace as a new view of its project and return its URL. Raises a UserError if W&B refuses it."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        return str(workspace.save().url)
    except Exception as error:  # an error of the network, W&B or the library
        raise UserError(
            f"the workspace was not saved in {workspace.entity}/{workspace.project} ({reason(error)}): log in with "
            "`wandb login` on a machine with internet access, and name one of your projects as ENTITY/PROJECT."
        ) from error


def known_keys() -> set[str]:
    """Return the dotted keys of all configurations."""
    keys, hints = set[str](), get_type_hints(Config)
    for part in fields(Config):
        classes = VARIANTS[part.name].values() if part.name in VARIANTS else [hints[part.name]]
        for cls in classes:
            keys |= {f"{part.name}.{f.name}" for f in fields(cls)} if is_dataclass(cls) else {part.name}
    return keys


def _require_keys(keys: Sequence[str], purpose: str) -> None:
    """Raise a UserError for a key that the configuration does not have."""
    if unknown := sorted({*keys} - known_keys()):
        near = "optimizer.name, schedule.name, data.batch_size"
        raise UserError(
            f"Cannot {purpose} {unknown[0]}, which is not a key of the configuration: choose keys like {near}."
        )


def _colours(groups: Sequence[str]) -> dict[str, str]:
    """Return the colour of each value of the first group, if that is the optimizer."""
    if not groups or groups[0] != "optimizer.name":
        return {}
    return {name: look.light for name, look in OPTIMIZERS.items()}


def _parallel(swept: Sequence[str], result: str) -> Any:
    """Return the parallel coordinates of swept settings and the result that they lead to."""
    _, wr, _ = _library()
    axes = [wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=key.endswith(".lr")) for key in swept]
    last = wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(result))
    return wr.ParallelCoordinatesPlot(title=f"Settings and {result}", columns=[*axes, last])


def _plot(panel: Panel, spread: str) -> Any:
    """Return the line plot of a panel, which shows the mean and spread of each group of the table of runs."""
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
