"""Count registers, launches and bytes of the GPU work outside the network; no GPU is needed or used.

Prints three tables, and with --write puts them into docs/gpu.md: the resources of the fused step's kernels compiled
for several GPUs; launches of a step and passes over the parameters, counted on a fake device; and the time that they
would take, by arithmetic. Takes a minute."""

import argparse
import os

import _installed

from ranger21.config.arguments import Parser
from ranger21.config.ending import ending_well, fail
from ranger21.records.code import PROJECT
from ranger21.system.project import require_clone

EXAMPLES = """\
examples:
  python scripts/fused_report.py
  python scripts/fused_report.py --write        # updates docs/gpu.md"""


def main() -> None:
    """Run the command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("--write", action="store_true", help="also write the tables into docs/gpu.md")
    options = parser.parse_args()
    if options.write:
        require_clone("fused_report --write")
    if os.environ.get("TRITON_INTERPRET") == "1":
        fail("TRITON_INTERPRET=1 makes Triton interpret kernels instead of compiling them: unset it.")
    from ranger21.gpu import report, tables

    sections = {"kernels": report.kernels()} | report.counted()
    for name, content in sections.items():
        print(f"{name}\n\n{content}\n")
    if options.write:
        tables.write(PROJECT / "docs" / "gpu.md", sections)


if __name__ == "__main__":
    with ending_well("starts over"):
        main()
