"""Syntax trees of the project's source files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and the line of each import anywhere in a tree; `from a import b` yields a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            yield str(node.module), node.lineno


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file. Callers must not change it."""
    return ast.parse(path.read_text(), str(path))
