"""Paths of the project's folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
FORMATS = ROOT / "tests" / "formats" / "1"  # runs, checkpoints and packs that an earlier version wrote
