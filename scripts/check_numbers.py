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
from ranger21.system.wording import counted

HELP = """\
Recompute every number that README and docs quote from committed records.

docs/numbers.yaml lists the phrases that quote numbers. Each phrase is rebuilt from the records and searched for in its
text; the tables in results/ are rebuilt and compared. The exit status is 1 if a phrase or a table is stale."""
EXAMPLES = """\
examples:
  python scripts/check_numbers.py
  python scripts/check_numbers.py --others README.md      list the numbers in a text that come from no record"""


def main() -> int:
    """Run the command. Return the exit status, 1 if a phrase or a table is stale."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=HELP, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("--others", metavar="TEXT", help="list the numbers in this text that come from no record")
    options = parser.parse_args()
    require_clone("check_numbers")
    from ranger21.numbers.check import Statements, others

    statements = Statements(PROJECT / "docs" / "numbers.yaml", PROJECT)
    phrases = statements.phrases()
    if options.others:
        text = (PROJECT / options.others).read_text(encoding="utf-8")
        print("\n".join(others(text, [one for one in phrases if one.text == options.others])))
        return 0
    stale = [phrase for phrase in phrases if not phrase.found]
    tables = statements.stale_tables()
    for phrase in stale:
        print(f"stale: {phrase.text} lacks the phrase: {phrase.said}")
    for name in tables:
        print(f"stale: {name} is not what compare.py now writes for its records")
    for text in dict.fromkeys(phrase.text for phrase in phrases):
        own = [phrase for phrase in phrases if phrase.text == text]
        left = others(statements.read(text), own)
        print(
            f"{text}: {counted(sum(one.numbers for one in own), 'number')} from records, {counted(len(left), 'other')}"
        )
    count = counted(sum(phrase.numbers for phrase in phrases), "number")
    print(f"{count} from records; stale: {counted(len(stale), 'phrase')} and {counted(len(tables), 'table')}")
    return 1 if stale or tables else 0


if __name__ == "__main__":
    with ending_well("starts over"):
        sys.exit(main())
