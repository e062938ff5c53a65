"""Checks and preparation of train.py's command line (`key=value` and Hydra's flags). Imports no torch."""

import argparse
import logging
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, RangeSweep, Sweep
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from ranger21.config import RETIRED, Config
from ranger21.config.arguments import setting
from ranger21.config.groups import GROUPS, SPACE, choices
from ranger21.system.checks import require_path
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR
from ranger21.tracking.loggers import CHOICES

log = logging.getLogger("ranger21")
SETTINGS = {field.name for field in fields(Config)}
HOME = re.compile(r"(?<=[=\[,: ])~[\w.-]*(?=[/,\]}]|$)")  # `~` and `~user` at the start of a value


def prepare(words: list[str]) -> list[str]:
    """Return the command line in a form that Hydra can read, and register timm's models.

    Raises a UserError for arguments that Hydra would answer with a traceback, or ignore silently.
    """
    args = _parsed(words)
    _check_flags(args)
    if args.shell_completion:
        _check_completion(args.overrides)
        return words
    sweep = args.multirun or any(override.startswith("hydra.mode=") for override in args.overrides)
    overrides = readable(args.overrides, sweep)
    flags = [word for word in words if word != "--"]
    for override in args.overrides:
        flags.remove(override)
    folders = []
    if args.config_dir is not None:
        folders = [_folder("--config-dir", args.config_dir)]
        flags = [_with_end(flag, args.config_dir, str(folders[0])) for flag in flags]
    offer_timm_models(overrides, folders)
    return [*overrides, *flags]


def _parsed(words: list[str]) -> argparse.Namespace:
    """Parse Hydra's flags, which may stand between overrides. Raises a UserError for a setting written as a flag."""
    parser = get_args_parser()
    for word in parser.parse_known_intermixed_args(words)[1]:
        key, equals, value = word.lstrip("-").partition("=")
        if key.partition(".")[0] in SETTINGS:
            value = value if equals else next(iter(words[words.index(word) + 1 :]), "VALUE")
            raise UserError(f"{word} is a setting and not a flag: write {key}={value}, without dashes.")
    return parser.parse_intermixed_args(words)


def _check_flags(args: argparse.Namespace) -> None:
    """Raise a UserError for flags of Hydra that exclude each other, or that need another."""
    actions = {"--run": args.run, "--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info}
    chosen = [flag for flag, given in (actions | {"--shell-completion": args.shell_completion}).items() if given]
    if args.experimental_rerun is not None:
        raise UserError("--experimental-rerun is not supported: run the same command again to resume a run.")
    if len(chosen) > 1:
        single = " --cfg job shows the configuration of one run: omit -m." if args.multirun and args.cfg else ""
        raise UserError(f"{' and '.join(chosen)} cannot be combined: give one of them.{single}")
    if args.resolve and not (args.cfg or args.help):
        raise UserError("--resolve is only for --cfg: give both, as in --cfg job --resolve.")
    if args.package is not None and not args.cfg:
        raise UserError("--package is only for --cfg: give both, as in --cfg job --package trainer.")


def _check_completion(overrides: list[str]) -> None:
    """Raise a UserError if --shell-completion has no action, or has one that only the shell can start."""
    if not re.fullmatch(r"(install|uninstall|query)=(bash|zsh|fish)", " ".join(overrides)):
        raise UserError("--shell-completion needs an action: install=bash or uninstall=bash (or zsh, fish).")
    if overrides[0].startswith("query") and "COMP_LINE" not in os.environ:
        raise UserError("--shell-completion query=... is for the shell when Tab is pressed: install it first.")


def _with_end(word: str, end: str, new: str) -> str:
    return word.removesuffix(end) + new if end.startswith("~") and word.endswith(end) else word


def _folder(key: str, text: str) -> Path:
    """Return the path of a configuration folder. Raises a UserError if it does not exist."""
    folder = Path(require_path(key, text))
    if not folder.is_dir():
        raise UserError(f"{key}: the folder {folder} does not exist.")
    return folder


def readable(overrides: list[str], sweep: bool = False) -> list[str]:
    """Check overrides and expand `~` and `~user` at the start of values, which a shell does not do after `=`.

    Raises a UserError for overrides that Hydra's grammar cannot read (with a form that works), for several values of a
    key unless `sweep`, and for overrides that would have no effect.
    """
    written: list[str] = []
    for index, override in enumerate(overrides):
        if (key := override.partition("=")[0].lstrip("+")) in RETIRED:
            log.warning("%s no longer exists and is ignored: the step is not compiled separately.", key)
            continue
        if override.lstrip("+~").startswith("="):
            raise UserError(f"{override} has no key: an argument is key=value or group=choice.")
        if not _parses(override):
            expanded = HOME.sub(_home, override)
            if not _parses(expanded):
                raise UserError(_unreadable(override, overrides[index - 1] if index else ""))
            override = expanded
        (parsed,) = OverridesParser.create().parse_overrides([override])
        if parsed.key_or_group == "logger" and parsed.package is None:  # it replaces an earlier list
            written = [word for word in written if not word.startswith("+logger@")]
            if isinstance(parsed.value(), list) and parsed.type is OverrideType.CHANGE:
                written += _loggers(override, parsed.value())
                continue
        _require_sense(override, parsed, sweep)
        written.append(override)
    return written


def _loggers(override: str, names: list[Any]) -> list[str]:
    """Return the overrides that choose several loggers: `logger=[wandb,tensorboard]` in a form that Hydra composes."""
    if not names or len({str(name) for name in names}) < len(names) or not all(str(name) in CHOICES for name in names):
        known = ", ".join(CHOICES)
        raise UserError(f"{override} is invalid: it must be a list of one or more of {known}, each at most once.")
    if len(names) == 1:
        return [f"logger={names[0]}"]
    return ["logger=several", *(f"+logger@logger.{name}={name}" for name in names)]


def _require_sense(override: str, parsed: Override, sweep: bool) -> None:
    key, value = parsed.key_or_group, parsed.value()
    if key == SPACE:
        raise UserError(f"{override} is invalid: only scripts/tune.py uses configs/{SPACE}, train.py does not.")
    if key in (*GROUPS, "hydra") and not isinstance(value, str | Sweep | Glob | None):
        raise UserError(f"{override} is invalid: {key} is a group; give the name of one of its choices.")
    part = parsed.package is not None and parsed.package.startswith(f"{key}.")  # as `_loggers` returns
    if key in GROUPS and not part and (parsed.is_add() or parsed.is_force_add()):
        chosen = override.lstrip("+")
        raise UserError(f"{override} is invalid: {key} already has a choice; {chosen} (without +) replaces it.")
    if key in GROUPS and parsed.is_delete():
        raise UserError(f"{override} is invalid: a run needs {key}. Omit {override}.")
    if key == "hydra.run.dir":
        raise UserError(f"{override} would not move the run: use run_dir=... or outputs=....")
    if not parsed.is_sweep_override():
        return
    if not sweep:
        text = override.partition("=")[2]
        raise UserError(
            f"{override}: {key} takes one value. train.py -m does a run for each of several values; write a list as "
            f"{shlex.quote(f'{key}=[{text}]')}, text with commas as {shlex.quote(setting(key, text))}."
        )
    if isinstance(value, Glob) and key not in GROUPS:
        raise UserError(f"{override} is invalid: glob() selects choices of a group, and {key} is not a group.")
    if isinstance(value, Glob) and not value.filter(choices(key)):
        raise UserError(f"{override} matches no choice: {key} is one of {', '.join(choices(key))}.")
    if isinstance(value, RangeSweep) and (not value.step or next(iter(value.range()), None) is None):
        raise UserError(f"{override} has no values: range(a,b,step) counts from a to below b.")


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True


def _home(match: re.Match[str]) -> str:
    try:
        return str(Path(match[0]).expanduser())
    except RuntimeError:  # no such user, or no home
        return match[0]


def _unreadable(override: str, before: str) -> str:
    """Return the error message for an override that cannot be read, with what to type instead."""
    key, equals, value = override.partition("=")
    if not equals:
        groups = [group for group in GROUPS if override in choices(group)]
        hint = " or ".join(f"{group}={override}" for group in groups) or "an argument is key=value or group=choice"
        if "=" in before:
            key, _, value = before.partition("=")
            quoted = shlex.quote(setting(key, f"{value} {override}"))
            hint += f"; if it belongs to the argument before, quote both: {quoted}"
        return f"{override!r} is not of the form key=value: {hint}."
    if _parses(HOME.sub("x", override)):
        return f"{override}: the home folder {' or '.join(HOME.findall(override))} does not exist: give the full path."
    if not re.fullmatch(r"[+~]{0,2}[\w./@:-]+", key) or value[:1] in ("[", "{", "'", '"'):
        return (
            f"{override} cannot be read: a value is text, a number, a list [a,b] or a mapping {{a:b}}, with every "
            "bracket and quote closed. In a shell, put single quotes around it: 'optimizer.betas=[0.9,0.99]'."
        )
    quoted = shlex.quote(setting(key, value))
    return f"{override} cannot be read: text with characters such as = ( ) [ ] needs two kinds of quotes: {quoted}."


def offer_timm_models(overrides: list[str], folders: Sequence[Path] = ()) -> None:
    """Let `model=NAME` compose for names without a file in configs/model, with other settings as in resnet50.yaml.

    Args:
        overrides: the command line.
        folders: of the user's own configurations, besides those of hydra.searchpath.

    Raises a UserError for a group without a choice, which Hydra answers with a traceback.
    """
    folders = [CONFIG_DIR, *folders, *_search_path(overrides)]
    for override in overrides:
        key, _, value = override.partition("=")
        if value in ("", "null") and key in GROUPS:
            raise UserError(f"{key}={value} is invalid: {key} is one of {', '.join(choices(key))}.")
        for name in value.split(",") if key == "model" else ():
            if name and not any((folder / "model" / f"{name}.yaml").exists() for folder in folders):
                node: Any = OmegaConf.load(CONFIG_DIR / "model" / "resnet50.yaml")
                node.name = name
                group, _, last = f"model/{name}".rpartition("/")
                ConfigStore.instance().store(group=group, name=last, node=node, package="model")


def _search_path(overrides: list[str]) -> list[Path]:
    """Return the folders of hydra.searchpath. Raises a UserError for one that does not exist."""
    given = [override for override in overrides if override.partition("=")[0].lstrip("+") == "hydra.searchpath"]
    folders: list[Path] = []
    for override in OverridesParser.create().parse_overrides(given):
        places = override.value()
        if not isinstance(places, list):
            raise UserError(f"hydra.searchpath={places} is invalid: it must be a list, as in 'hydra.searchpath=[a]'.")
        folders += [Path(str(place).removeprefix("file://")) for place in places if "pkg://" not in str(place)]
    return [_folder("hydra.searchpath", str(folder)) for folder in folders]
