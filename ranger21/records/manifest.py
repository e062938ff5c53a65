"""manifest.json: a run's data, code, and the processes that started or resumed it. Imports no torch.

Its `format` applies to the whole run directory, including config.yaml, metrics.jsonl and result.json.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranger21.data.identity import DataMatch, compare
from ranger21.records import code
from ranger21.system.errors import UserError
from ranger21.system.files import newer
from ranger21.system.reading import Unreadable, misfit, read_json

log = logging.getLogger("ranger21")
FORMAT = 2  # format 1 (unnumbered) had the whole git diff for the code, and the images' names for the data
CURE = "restore it, or choose another run_dir="  # remedy for a damaged file
Manifest = dict[str, Any]
SHAPE = {
    "data": {"fingerprint?": str, "names?": str, "unreadable?": [str]},
    "sessions": [{"started?": str, "resumed_from_step?": int, "git?": {"commit?": str, "changed?": {}}, "code?": str}],
    "code?": {},
    "protocol?": {"name?": str, "hash?": str},
    "parent?": {"path?": str, "id?": str, "step?": int, "config?": str, "checkpoint?": str},
    "id?": str,
    "first_checkpoint?": int,
}  # the expected form of the parts that are used


def read_manifest(path: Path) -> Manifest:
    """Read a run's manifest. Raises a UserError if it cannot be read, or was written by a later version."""
    manifest = read_json(path, {}, CURE)
    if reason := newer(manifest, FORMAT):
        raise UserError(f"{path} cannot be used: {reason}.")
    if why := misfit(manifest, SHAPE):
        raise Unreadable(path, why, CURE)
    return manifest


def new_manifest(
    data: Mapping[str, Any], protocol: Mapping[str, str] | None = None, parent: Mapping[str, Any] | None = None
) -> Manifest:
    """Return the manifest of a new run on this data, under a protocol, which continues a parent (continue_from)."""
    more = ({"protocol": dict(protocol)} if protocol else {}) | ({"parent": dict(parent)} if parent else {})
    return {"format": FORMAT, "data": dict(data), **more, "code": {}, "sessions": []}


def warn_of_another_protocol(manifest: Manifest, now: Mapping[str, str] | None) -> None:
    """Warn if a resumed run was started under another protocol than the one chosen now; it keeps its own."""
    then = manifest.get("protocol")
    if then and now and dict(then) != dict(now):
        told = [f"{protocol.get('name')} ({protocol.get('hash')})" for protocol in (then, now)]
        log.warning("This run was started under the protocol %s and keeps it, although %s was chosen now.", *told)


def add_session(manifest: Manifest, session: Mapping[str, Any]) -> None:
    """Record a process that starts or resumes the run, with its code; warn if the code has changed."""
    sessions = manifest["sessions"]
    if sessions and (told := code.change(code.recorded_code(manifest, sessions[-1]), code.own_code())):
        log.warning("The code has changed since this run's last start (%s): %s.", sessions[-1].get("started"), told)
    files = code.own_hashes()
    manifest["format"] = FORMAT
    manifest.setdefault("code", {})[code.digest(files)] = dict(files)
    sessions.append({**session, "code": code.digest(files)})


def require_same_data(path: Path, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a UserError if the run in `path` was started on other data."""
    compared = compare(recorded, now)
    if compared.match is DataMatch.DIFFERENT:
        raise UserError(
            f"The images are not those that {path} was started with ({compared.why}): {told_place(recorded)} then, "
            f"{told_place(now)} now. Restore them, or choose another run_dir= or outputs=."
        )
    if compared.match is DataMatch.SAME_NAMES:
        log.warning("%s: %s.", path, compared.why)


def require_same_place(path: Path, recorded: Mapping[str, Any], now: Mapping[str, str], why: object) -> None:
    """Raise a UserError if data that cannot be compared is not where the run in `path` recorded it.

    If one of the two places is unknown, no error is raised.

    Args:
        recorded: the data's entry in the manifest.
        now: the place of the data, under `root` or `pack`.
        why: the reason why the data cannot be compared, for the message.
    """
    then = {key: recorded[key] for key in ("root", "pack") if recorded.get(key)}
    if then and now and then != now:
        raise UserError(
            f"Cannot check whether the images are those that {path} was started with: {_folder(then)} then, "
            f"{_folder(now)} now. {why}"
        )


def told_place(data: Mapping[str, Any]) -> str:
    """Return the place and number of the training images in a manifest, for a message."""
    return f"{_folder(data)} with {data.get('train_images')} for training"


def _folder(data: Mapping[str, Any]) -> str:
    return next((f"data.{key}={data[key]}" for key in ("pack", "root") if data.get(key)), "an unknown data.root")
