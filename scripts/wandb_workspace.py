#!/usr/bin/env python
"""Build the W&B workspace (dashboard) of this project, and save it with --publish."""

from __future__ import annotations

import argparse
import json
import re

import _installed

from ranger21.config.arguments import Parser
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError

HELP = """\
Build the W&B workspace (dashboard) of this project, and save it with --publish.

It has a panel for every metric that the trainer logs, over epochs, in the same sections as
the page of scripts/compare.py. Runs that differ only in their seed form one line, their
mean, with a band that shows their spread. The last section shows the settings of a sweep and
its results in parallel coordinates. Without --publish nothing is sent, and the definition is
printed as JSON."""

EXAMPLES = """\
examples:
  print what would be saved
    python scripts/wandb_workspace.py

  save it (after `wandb login`); every call makes a new view
    python scripts/wandb_workspace.py --publish my-team/ranger21

  one line for each optimizer and batch size, with standard errors
    python scripts/wandb_workspace.py --group optimizer.name data.batch_size --spread stderr --publish me/ranger21

needs wandb-workspaces: pip install -e '.[workspace]'"""


def main() -> None:
    """Run the command."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--publish", metavar="ENTITY/PROJECT", help="save the workspace as a new view of this project")
    parser.add_argument(
        "--group", nargs="+", metavar="KEY", help="dotted keys of the configuration that distinguish lines"
    )
    parser.add_argument(
        "--sweep",
        nargs="+",
        metavar="KEY",
        help="swept keys of the configuration (default: learning rate, weight decay)",
    )
    parser.add_argument(
        "--spread", choices=("stddev", "stderr", "minmax"), default="stddev", help="what the band shows"
    )
    parser.add_argument("--name", default="Ranger21", help="name of the workspace (default: %(default)s)")
    options = parser.parse_args()
    with ending_well("creates another view" if options.publish else "starts over"):
        workspace(options)


def workspace(options: argparse.Namespace) -> None:
    """Build the workspace; print its definition, or save it and print its URL."""
    target = options.publish or "/"
    if options.publish is not None and not re.fullmatch("[^/]+/[^/]+", target):
        raise UserError(f"--publish {target} is not ENTITY/PROJECT: give your user or team name and a project.")

    from ranger21.wandb_tools.workspace import GROUPS, SWEPT, build, definition, publish

    built = build(options.group or GROUPS, options.spread, options.name, target, options.sweep or SWEPT)
    if options.publish:
        print(f"saved: {publish(built)}")
    else:
        print(json.dumps(definition(built), indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
