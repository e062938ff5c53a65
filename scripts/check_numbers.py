#!/usr/bin/env python
"""Recompute every number that README and docs quote from committed records."""

from __future__ import annotations

import argparse
import sys

import _installed

from ranger21.config.arguments import Parser
from ranger21.config.ending import ending_well
from ranger21.records.code import PROJECT
from ranger21.system.project import require_clone

HELP = """\
Recompute every number that README and docs quote from committed records.

docs/numbers.yaml holds the phrases that quote them. Each is made anew from the records and looked for in its text; the
tables in results/ are written anew and compared. The exit status is 1 if one is stale."""
EXAMPLES = """\
examples:
  python scripts/check_numbers.py
  python scripts/check_numbers.py --others README.md      the numbers of a text that come from no record"""


def main() -> int:
    """Run the command; the exit status is 1 if a number is stale."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=HELP, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("--others", metavar="TEXT", help="list the numbers of a text that come from no record")
    options = parser.parse_args()
    require_clone("check_numbers")
    from ranger21.report.numbers.check import Statements, others

    statements = Statements(PROJECT / "docs" / "numbers.yaml", PROJECT)
    phrases = statements.phrases()
    if options.others:
        text = (PROJECT / options.others).read_text(encoding="utf-8")
        print("\n".join(others(text, [one for one in phrases if one.text == options.others])))
        return 0
    stale = [phrase for phrase in phrases if not phrase.found]
    tables = statements.stale_tables()
    for phrase in stale:
        print(f"stale: {phrase.text} does not say: {phrase.said}")
    for name in tables:
        print(f"stale: {name} is not what compare.py makes of its records")
    for text in dict.fromkeys(phrase.text for phrase in phrases):
        own = [phrase for phrase in phrases if phrase.text == text]
        left = others(statements.read(text), own)
        print(f"{text}: {sum(one.numbers for one in own)} numbers from records; {len(left)} others")
    count = sum(phrase.numbers for phrase in phrases)
    print(f"{count} numbers from records; {len(stale)} phrases and {len(tables)} tables are stale")
    return 1 if stale or tables else 0


if __name__ == "__main__":
    with ending_well("starts over"):
        sys.exit(main())
