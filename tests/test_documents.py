"""The project's texts: links, the index of docs/, the README's code, the Makefile, the version in each place."""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from support.project import ROOT

import ranger21

TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/*/README.md")])
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a text."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("text", TEXTS, ids=names(TEXTS))
def test_links_and_anchors_exist(text: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", text.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (text.parent / place).resolve() if place else text
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_the_index_lists_every_page() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"README.md"} <= listed


def test_scripts_that_texts_name_exist() -> None:
    texts = "".join(text.read_text(encoding="utf-8") for text in TEXTS)
    named = set(re.findall(r"\bscripts/([a-z]\w*\.py)", texts))
    assert {name for name in named if not (ROOT / "scripts" / name).is_file()} == set()


def test_the_python_example_of_the_readme_trains() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    space = {"model": model, "total_steps": 20}
    exec(code, space)
    before = [param.clone() for param in model.parameters()]
    model(torch.linspace(-1, 2, 24).reshape(8, 3)).square().mean().backward()
    space["optimizer"].step()
    space["scheduler"].step()
    assert all((old != new).any() for old, new in zip(before, model.parameters(), strict=True))
    assert space["optimizer"].param_groups[0]["lr"] < 3e-3  # still in the warm-up


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ranger21.__version__
    assert isinstance(citation["date-released"], datetime.date)
    released = re.findall(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == (citation["version"], citation["date-released"].isoformat())


def test_the_workflow_runs_the_checks_of_the_project() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert {"run": ".ci/run"} in job["steps"] and (ROOT / ".ci" / "run").is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target_and_targets_name_existing_files() -> None:
    def make(*words: str) -> str:
        done = subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = re.findall(r"^make (\w+) ", make("help"), re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())
    typed = make("-n", *listed)
    assert {name for name in re.findall(r"\b[\w/]+\.py\b", typed) if not (ROOT / name).is_file()} == set()
