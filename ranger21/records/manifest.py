"""manifest.json: what a run directory says of its run: its data, its code, and every process that took it up.

Its `format` is that of the whole directory: of config.yaml, metrics.jsonl and result.json, too. Imports no torch.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranger21.data.identity import Agreement, compare
from ranger21.records import code
from ranger21.system.errors import UserError
from ranger21.system.files import newer
from ranger21.system.reading import Unreadable, misfit, read_json

log = logging.getLogger("ranger21")
FORMAT = 2  # 1 (which was not written down): the whole git diff for the code, the images' names for the data
CURE = "restore it, or choose another run_dir="  # for a record that is damaged
Manifest = dict[str, Any]
SHAPE = {
    "data": {"fingerprint?": str, "names?": str, "unreadable?": [str]},
    "sessions": [{"started?": str, "resumed_from_step?": int, "git?": {"commit?": str, "changed?": {}}, "code?": str}],
    "code?": {},
    "protocol?": {"name?": str, "hash?": str},
    "id?": str,
    "first_checkpoint?": int,
}  # of what is used


def read_manifest(path: Path) -> Manifest:
    """A run's manifest. Raises a UserError if it cannot be read, or is of a later version."""
    manifest = read_json(path, {}, CURE)
    if reason := newer(manifest, FORMAT):
        raise UserError(f"{path} cannot be used: {reason}.")
    if why := misfit(manifest, SHAPE):
        raise Unreadable(path, why, CURE)
    return manifest


def new_manifest(data: Mapping[str, Any], protocol: Mapping[str, str] | None = None) -> Manifest:
    """The manifest of a run that begins on this data, under a protocol of this name and hash."""
    under = {"protocol": dict(protocol)} if protocol else {}
    return {"format": FORMAT, "data": dict(data), **under, "code": {}, "sessions": []}


def warn_of_another_protocol(manifest: Manifest, now: Mapping[str, str] | None) -> None:
    """Warn if a run that is taken up began under another protocol than the one chosen now: it keeps its own."""
    then = manifest.get("protocol")
    if then and now and dict(then) != dict(now):
        told = [f"{protocol.get('name')} ({protocol.get('hash')})" for protocol in (then, now)]
        log.warning("This run began under the protocol %s and keeps it, though %s was chosen now.", *told)


def add_session(manifest: Manifest, session: Mapping[str, Any]) -> None:
    """Note a process that takes the run up, with its code; say what in the code has changed since the last one."""
    sessions = manifest["sessions"]
    if sessions and (told := code.change(code.recorded_code(manifest, sessions[-1]), code.own_code())):
        log.warning("The code has changed since this run's last start (%s): %s.", sessions[-1].get("started"), told)
    files = code.own_hashes()
    manifest["format"] = FORMAT
    manifest.setdefault("code", {})[code.digest(files)] = dict(files)
    sessions.append({**session, "code": code.digest(files)})


def require_same_data(path: Path, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a UserError if the data that is there now is not what the run in `path` began with."""
    compared = compare(recorded, now)
    if compared.agreement is Agreement.DIFFERENT:
        raise UserError(
            f"The images are not those that {path} was begun with ({compared.why}): {told_place(recorded)} then, "
            f"{told_place(now)} now. Restore them, or choose another run_dir= or outputs=."
        )
    if compared.agreement is Agreement.SAME_NAMES:
        log.warning("%s: %s.", path, compared.why)


def require_same_place(path: Path, recorded: Mapping[str, Any], now: Mapping[str, str], why: object) -> None:
    """Raise a UserError if data that cannot be compared (`why`) is not where the data of the run in `path` was.

    `now` is the place alone, under `root` or `pack`; nothing is said where one of the two does not name it.
    """
    then = {key: recorded[key] for key in ("root", "pack") if recorded.get(key)}
    if then and now and then != now:
        raise UserError(
            f"Cannot check whether the images are those that {path} was begun with: {_folder(then)} then, "
            f"{_folder(now)} now. {why}"
        )


def told_place(data: Mapping[str, Any]) -> str:
    """Where the images of a manifest are or were, and how many they are, for a sentence."""
    return f"{_folder(data)} with {data.get('train_images')} for training"


def _folder(data: Mapping[str, Any]) -> str:
    return next((f"data.{key}={data[key]}" for key in ("pack", "root") if data.get(key)), "an unknown data.root")
