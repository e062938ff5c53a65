"""The wheel: its files, its commands in an empty folder, and other packages with its name."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.project import ROOT
from support.training import TINY

from ranger21 import __version__, commands, namesake
from ranger21.records import code
from ranger21.system import project

IMPORTS = (ast.Import, ast.ImportFrom)
SOURCES = ("ranger21", "configs", "scripts", "slurm", "train.py", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel, built where an earlier build left a module that no longer exists."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    stale = source / "build" / "lib" / "ranger21" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").iterdir()
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def run(site: Path, folder: Path, *words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with the wheel's package."""
    env = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "120"}
    return subprocess.run([sys.executable, *flags, *words], cwd=folder, env=env, capture_output=True, text=True)


def files(place: Path, *folders: str) -> set[str]:
    found = [path for folder in folders for path in (place / folder).rglob("*") if path.is_file()]
    return {path.relative_to(place).as_posix() for path in found if "__pycache__" not in path.parts}


def test_a_wheel_has_every_file_and_the_same_code_as_the_clone(site: Path) -> None:
    top = site / "ranger21" / "top"
    folders = ("configs", "scripts", "slurm")
    assert files(top, *folders) == files(ROOT, *folders)
    assert files(site, "ranger21") - {f"ranger21/top/{name}" for name in files(top, ".")} == files(ROOT, "ranger21")
    assert code.hashes(site) == code.hashes(ROOT)  # so neither counts as changed code for a run of the other
    assert {path.name for path in site.iterdir()} == {"ranger21", f"ranger21_imagenet-{__version__}.dist-info"}


def test_the_commands_work_in_an_empty_folder_and_help_names_them(site: Path, images: Path, tmp_path: Path) -> None:
    trained = run(site, tmp_path, "-m", "ranger21", "train", *TINY, f"data.root={images}", "trainer.steps=2")
    assert trained.returncode == 0, trained.stderr
    compared = run(site, tmp_path, "-m", "ranger21", "compare", "outputs")
    assert compared.returncode == 0, compared.stderr
    assert (tmp_path / "outputs" / "compare" / "index.html").is_file()
    help_text = run(site, tmp_path, "-m", "ranger21", "train", "--help").stdout
    assert (
        "ranger21 train experiment=demo " in help_text and "torchrun --nproc-per-node=8 -m ranger21 train " in help_text
    )
    listed = run(site, tmp_path, "-m", "ranger21", "--help").stdout
    assert all(f"\n  {name} " in listed for name in commands.commands())
    assert ".py" not in help_text + listed.partition("commands:")[2]
    assert run(site, tmp_path, "-m", "ranger21", "slurm").returncode == 0
    assert files(tmp_path, "slurm") == files(ROOT, "slurm")
    job = ["bash", "slurm/compare.sbatch", "outputs"]
    (tmp_path / "python").write_text('#!/bin/bash\n[ "$1" = -c ] || echo "$@"\n')
    (tmp_path / "python").chmod(0o755)
    env = os.environ | {"PYTHON": f"{tmp_path}/python"}
    ran = subprocess.run(job, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.stdout == "-m ranger21 compare outputs\n"
    again = run(site, tmp_path, "-m", "ranger21", "slurm")
    assert again.returncode == 1 and "already exists: nothing was copied." in again.stderr


def test_type_checkers_find_errors_in_a_client(site: Path, tmp_path: Path) -> None:
    client = "from ranger21 import Chain, Ranger21, explore_exploit\nfrom ranger21.optim import cosine\n"
    wrong = "a: str = explore_exploit(1, 2)\nb: str = cosine(1, 2)\nfrom ranger21 import Ranger22\nRanger21(1, 'a')\n"
    (tmp_path / "client.py").write_text(client + wrong)
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n")
    done = run(site, tmp_path, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "client.py")
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [int(line.split(":")[1]) for line in lines] == [3, 4, 5, 6], done.stdout + done.stderr


def test_every_script_reports_a_missing_or_different_package(tmp_path: Path) -> None:
    for path in sorted((ROOT / "scripts").glob("[a-z]*.py")):
        names = [ast.unparse(node) for node in ast.parse(path.read_text()).body if isinstance(node, IMPORTS)]
        first = next(name for name in names if name.split()[1].split(".")[0] not in sys.stdlib_module_names)
        assert first == "import _installed", path.name
    script = str(ROOT / "scripts" / "compare.py")
    bare = run(tmp_path, tmp_path, script, flags=("-S",))
    assert (bare.returncode, bare.stdout) == (1, "")
    assert (
        bare.stderr
        == f"error: ranger21 is not installed for {sys.executable}: type {sys.executable} -m pip install -e {ROOT}\n"
    )
    (tmp_path / "ranger21").mkdir()
    (tmp_path / "ranger21" / "__init__.py").touch()
    other = run(tmp_path, tmp_path, script)
    assert (
        other.returncode == 1
        and f"Python would import ranger21 from {tmp_path / 'ranger21'}, another clone" in other.stderr
    )


def test_a_command_reports_missing_dependencies_or_an_unknown_name(site: Path, tmp_path: Path) -> None:
    lacking = run(site, tmp_path, "-m", "ranger21", "compare", flags=("-S",))
    assert lacking.returncode == 1 and "which is not installed" in lacking.stderr
    assert lacking.stderr.startswith("error: ranger21 compare needs ") and lacking.stderr.count("\n") == 1
    with pytest.raises(SystemExit, match=r"Did you mean compare\?"):
        commands.file_of("comapre")
    assert commands.file_of("prepare-imagenet") == project.SCRIPTS / "prepare_imagenet.py"


def test_the_authors_package_of_the_same_name_is_reported(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert namesake.namesake() is None
    facts = tmp_path / "ranger21-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: ranger21\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="package ranger21 0.1.0 is also installed and shares file names"):
        namesake.warn_of_namesake()
    replaced = shutil.copytree(site, tmp_path / "replaced")
    (replaced / "ranger21" / "__init__.py").write_text("class Ranger21: pass\n")
    shutil.copytree(facts, replaced / facts.name)
    for words in (["-m", "ranger21", "compare"], [str(replaced / "ranger21" / "top" / "train.py"), "--help"]):
        done = run(replaced, tmp_path, *words)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "0.1.0 is also installed and has replaced files of ranger21-imagenet" in done.stderr
        assert "pip uninstall ranger21 ranger21-imagenet" in done.stderr
