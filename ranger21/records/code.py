"""The code that produced a run, as hashes of its files, and the changes since. Imports no torch."""

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
MOST = 6  # files named in a message
LONGEST_DIFF = 1_000_000  # characters of a diff that a manifest keeps

# Files of `configs/` and `ranger21/` that cannot change a run's result: they start, disturb, show or compare runs,
# choose values for them, or prepare datasets, which have an identity of their own. Doubtful files are not listed.
WITHOUT_EFFECT = (
    *(
        f"ranger21/{room}/"
        for room in ("faults", "gpu", "grid", "landscape", "machine", "packing", "report", "tuning", "wandb_tools")
    ),
    "configs/space/",
    *(
        f"ranger21/data/{name}.py"
        for name in ("archives", "checksums", "oddities", "packing", "parquet", "photographs", "prepare", "verify")
    ),
    "ranger21/tracking/loggers/",
    *(f"ranger21/tracking/{name}.py" for name in ("colours", "console", "panels", "weights_and_biases")),
    *(f"ranger21/{name}.py" for name in ("__main__", "commands", "engine/lr_finder", "system/terminal")),
    "configs/protocol/",
)


@dataclass(frozen=True)
class Code:
    """The code of one process of a run, from the run's manifest.

    Attributes:
        files: hash of every file that can change a result, by path; None in older records.
        commit: git commit; None outside a git checkout.
        uncommitted: hash of every file that can change a result and differed from the commit.
    """

    files: Mapping[str, str] | None
    commit: str | None
    uncommitted: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """A readable name: the commit, or else the beginning of a hash over all files."""
        name = self.commit[:9] if self.commit else f"code {digest(self.files or {})[:9]}"
        return name + (
            f" with uncommitted changes in {first_few(sorted(self.uncommitted), MOST)}" if self.uncommitted else ""
        )

    def same(self, other: "Code") -> bool:
        """Return whether two codes are the same, by their files' hashes, or by commits if either has no hashes."""
        if self.files is not None and other.files is not None:
            return self.files == other.files
        clean = not self.uncommitted and not other.uncommitted
        alike = self.files is other.files and self.uncommitted == other.uncommitted
        return self.commit == other.commit and (clean or alike)

    def changed(self, other: "Code") -> list[str]:
        """Return the files known to differ, sorted; possibly none if either code has no hashes."""
        if self.files is not None and other.files is not None:
            names = self.files.keys() | other.files.keys()
            return sorted(name for name in names if self.files.get(name) != other.files.get(name))
        names = self.uncommitted.keys() | other.uncommitted.keys()
        return sorted(name for name in names if self.uncommitted.get(name) != other.uncommitted.get(name))


def can_change_a_result(name: str) -> bool:
    """Return whether a file of the project, given by its path in a clone, can change a result."""
    ours = name == "train.py" or name.startswith("configs/") or (name.startswith("ranger21/") and name.endswith(".py"))
    return ours and not name.startswith(WITHOUT_EFFECT)


def hashes(project: Path = PROJECT) -> dict[str, str]:
    """Return the hash of every file that can change a result, by its path in a clone (also from a wheel)."""
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
    """Return the hashes of this process's code, read only once because later edits do not affect this process."""
    return hashes()


def digest(files: Mapping[str, str]) -> str:
    """Return one hash over all files' hashes."""
    return _hash(json.dumps(dict(files), sort_keys=True).encode())


@functools.cache
def own_code() -> Code:
    """Return this process's code."""
    state = git_state() or {}
    return Code(own_hashes(), state.get("commit"), _that_count(state.get("changed", {})))


def recorded_code(manifest: Mapping[str, Any], session: Mapping[str, Any]) -> Code | None:
    """Return the code of one of a manifest's sessions; None if it is not recorded or cannot be read."""
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
    """Return the end of a sentence that names the changes between two codes; None if there are none or unknown."""
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
    """Return the files that can change a result and differ from a commit; None if git cannot tell."""
    try:
        names = _git("diff", "--name-only", "--no-renames", "-z", commit, "--").split("\0")
        if gone() & set(names):
            then = as_now(_hashes_of(commit))
            names = [name for name in then.keys() | own_hashes() if then.get(name) != own_hashes().get(name)]
        return [name for name in names if can_change_a_result(name)]
    except (OSError, subprocess.SubprocessError, tarfile.TarError):
        return None


def git_state(full: bool = False) -> dict[str, Any] | None:
    """Return the commit and a hash of every file that differs from it (None if deleted); None without a repository.

    With `full`, add the first million characters of the diff, with keys masked.
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
    """Run git in the project's own repository, never in one that happens to contain an installed wheel."""
    if not (PROJECT / ".git").exists():
        raise FileNotFoundError(PROJECT / ".git")
    return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, check=True, timeout=30).stdout


def _hashes_of(commit: str) -> dict[str, str]:
    """Return the hash of every file below train.py, configs and ranger21 in a commit, by its path then."""
    packed = _output_of_git("archive", "--format=tar", commit, "train.py", "configs", "ranger21")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {file.name: _hash(content.read()) for file in archive if (content := archive.extractfile(file))}


def _content(name: str) -> str | None:
    try:
        return _hash((PROJECT / name).read_bytes())
    except OSError:
        return None


def in_diff(diff: str) -> dict[str, str | None]:
    """Return the hash of each file's part of a diff, by path."""
    parts = re.split(r"^diff --git a/(.+?) b/.*$", diff, flags=re.MULTILINE)[1:]
    return {name: _hash(part.encode()) for name, part in zip(parts[::2], parts[1::2], strict=True)}


def _that_count(changed: Any) -> dict[str, str | None]:
    return {str(name): mark for name, mark in changed.items() if can_change_a_result(str(name))}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
