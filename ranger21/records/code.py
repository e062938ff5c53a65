"""The project's own files: which code a run was made by, and what in it has changed since. Imports no torch."""

import functools
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.records.moves import as_now, gone, named_as_now
from ranger21.system.masking import masked
from ranger21.system.project import PACKAGE
from ranger21.system.wording import first_few

PROJECT = PACKAGE.parent
MOST = 6  # files that a sentence names
LONGEST_DIFF = 1_000_000  # characters of a diff that a manifest keeps

# Of `train.py`, `configs/` and `ranger21/`, what cannot change a run's result: it starts, disturbs, shows or compares
# runs, chooses values for them, or makes data sets, which have an identity of their own. What is in doubt is not here.
WITHOUT_EFFECT = (
    *(
        f"ranger21/{room}/"
        for room in ("faults", "gpu", "grid", "landscape", "machine", "report", "tuning", "wandb_tools")
    ),
    "configs/space/",
    *(
        f"ranger21/data/{name}.py"
        for name in ("archives", "checksums", "oddities", "packing", "parquet", "photographs", "prepare", "verify")
    ),
    "ranger21/tracking/loggers/",
    *(f"ranger21/tracking/{name}.py" for name in ("console", "panels", "weights_and_biases")),
    *(f"ranger21/{name}.py" for name in ("__main__", "commands", "engine/lr_finder", "system/terminal")),
    "configs/protocol/",
)


@dataclass(frozen=True)
class Code:
    """What a run's record says of the code that one of its processes ran.

    Attributes:
        files: the hash of every file that can change a result, by its name; None in older records, which have none.
        commit: None outside a git checkout.
        uncommitted: the files that can change a result and were not as the commit has them, each with a hash.
    """

    files: Mapping[str, str] | None
    commit: str | None
    uncommitted: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """For people: the commit, or else the beginning of a hash over all files."""
        name = self.commit[:9] if self.commit else f"code {digest(self.files or {})[:9]}"
        return name + (
            f" with uncommitted changes in {first_few(sorted(self.uncommitted), MOST)}" if self.uncommitted else ""
        )

    def same(self, other: "Code") -> bool:
        """Compare with other code: by the files' hashes, or by the commits where one of the two has no hashes."""
        if self.files is not None and other.files is not None:
            return self.files == other.files
        clean = not self.uncommitted and not other.uncommitted
        alike = self.files is other.files and self.uncommitted == other.uncommitted
        return self.commit == other.commit and (clean or alike)

    def changed(self, other: "Code") -> list[str]:
        """The files that are known to differ; none may be known where one of the two has no hashes."""
        if self.files is not None and other.files is not None:
            names = self.files.keys() | other.files.keys()
            return sorted(name for name in names if self.files.get(name) != other.files.get(name))
        names = self.uncommitted.keys() | other.uncommitted.keys()
        return sorted(name for name in names if self.uncommitted.get(name) != other.uncommitted.get(name))


def can_change_a_result(name: str) -> bool:
    """Return whether a file of the project, by its path there, can change a result."""
    ours = name == "train.py" or name.startswith("configs/") or (name.startswith("ranger21/") and name.endswith(".py"))
    return ours and not name.startswith(WITHOUT_EFFECT)


def hashes(project: Path = PROJECT) -> dict[str, str]:
    """Hash every file that can change a result, by its path in a clone, also where it is from a wheel; needs no git."""
    inside = project / "ranger21" / "top"
    top = inside if inside.is_dir() else project
    package = [path for path in project.glob("ranger21/**/*.py") if inside not in path.parents]
    names = {path.relative_to(project).as_posix(): path for path in package}
    for path in (top / "train.py", *top.glob("configs/**/*.*")):
        if path.is_file():
            names[path.relative_to(top).as_posix()] = path
    return {name: _hash(names[name].read_bytes()) for name in sorted(names) if can_change_a_result(name)}


@functools.cache
def own_hashes() -> Mapping[str, str]:
    """The same of this process's code. Looked at once: what is edited later is not what runs here."""
    return hashes()


def digest(files: Mapping[str, str]) -> str:
    """A hash over all files: a short name of the whole code."""
    return _hash(json.dumps(dict(files), sort_keys=True).encode())


@functools.cache
def own_code() -> Code:
    """This process's code."""
    state = git_state() or {}
    return Code(own_hashes(), state.get("commit"), _that_count(state.get("changed", {})))


def recorded_code(manifest: Mapping[str, Any], session: Mapping[str, Any]) -> Code | None:
    """Return what a manifest says of the code of one of its sessions; None if it says nothing that can be read."""
    known, git = manifest.get("code"), session.get("git")
    files = known.get(session.get("code")) if isinstance(known, dict) else None
    git = git if isinstance(git, dict) else {}
    commit, changed, diff = git.get("commit"), git.get("changed"), git.get("diff")
    if not isinstance(files, dict) and not isinstance(commit, str):
        return None
    if not isinstance(changed, dict):  # an older record: the whole diff
        changed = in_diff(diff if isinstance(diff, str) else "")
    files = as_now(files) if isinstance(files, dict) else None
    return Code(files, str(commit) if commit else None, _that_count(named_as_now(changed)))


def change(then: Code | None, now: Code) -> str | None:
    """Return what has changed in the code, as the end of a sentence; None: nothing that counts, or unknown."""
    if then is None or now.same(then):
        return None
    files = now.changed(then)
    if then.files is None and then.commit and not then.uncommitted:
        between = changed_since(then.commit)
        if between is not None and not between:
            return None
        files = between or files
    return first_few(sorted(files), MOST) if files else f"{then.name} then, {now.name} now"


def changed_since(commit: str) -> list[str] | None:
    """The files that can change a result and are not as a commit has them; None where git cannot tell."""
    try:
        names = _git("diff", "--name-only", "--no-renames", "-z", commit, "--").split("\0")
        if gone() & set(names):
            then = as_now(_hashes_of(commit))
            names = [name for name in then.keys() | own_hashes() if then.get(name) != own_hashes().get(name)]
        return [name for name in names if can_change_a_result(name)]
    except (OSError, subprocess.SubprocessError, tarfile.TarError):
        return None


def git_state(full: bool = False) -> dict[str, Any] | None:
    """Commit, and a hash of every file that is not as the commit has it (null: it is gone); None without git.

    With `full` also the diff, its first million characters, with what looks like a key masked.
    """
    try:
        commit = _git("rev-parse", "HEAD").strip()
        names = [name for name in _git("diff", "--name-only", "-z", "HEAD").split("\0") if name]
        diff = {"diff": masked(_git("diff", "HEAD")[:LONGEST_DIFF])} if full else {}
        return {"commit": commit, "changed": {name: _content(name) for name in names}} | diff
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return _output_of_git(*arguments).decode(errors="replace")


def _output_of_git(*arguments: str) -> bytes:
    """Ask git about the project's own repository, and not about one around the place where a wheel is installed."""
    if not (PROJECT / ".git").exists():
        raise FileNotFoundError(PROJECT / ".git")
    return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, check=True, timeout=30).stdout


def _hashes_of(commit: str) -> dict[str, str]:
    """A hash of every file that a commit has of what can change a result, by its path then."""
    packed = _output_of_git("archive", "--format=tar", commit, "train.py", "configs", "ranger21")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {file.name: _hash(content.read()) for file in archive if (content := archive.extractfile(file))}


def _content(name: str) -> str | None:
    try:
        return _hash((PROJECT / name).read_bytes())
    except OSError:
        return None


def in_diff(diff: str) -> dict[str, str | None]:
    """The files of a diff, each with a hash of its part."""
    parts = re.split(r"^diff --git a/(.+?) b/.*$", diff, flags=re.MULTILINE)[1:]
    return {name: _hash(part.encode()) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _that_count(changed: Any) -> dict[str, str | None]:
    return {str(name): mark for name, mark in changed.items() if can_change_a_result(str(name))}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
