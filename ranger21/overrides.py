"""What is typed behind train.py, `key=value` and Hydra's flags, made readable for Hydra. Imports no torch."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Sweep
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf

from ranger21.arguments import setting
from ranger21.errors import UserError

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
GROUPS = sorted(path.name for path in CONFIG_DIR.iterdir() if path.is_dir())
HOME = re.compile(r"(?<=[=\[,: ])~[\w.-]*(?=[/,\]}]|$)")  # where a value begins


def prepare(words: list[str]) -> list[str]:
    """The command line as Hydra can read it, its model names known.

    Raises a UserError for what Hydra would answer with a traceback, or pass over in silence.
    """
    args = get_args_parser().parse_args(words)
    actions = {"--run": args.run, "--multirun": args.multirun, "--cfg": args.cfg, "--info": args.info}
    chosen = [flag for flag, given in (actions | {"--shell-completion": args.shell_completion}).items() if given]
    if args.experimental_rerun is not None:
        raise UserError("--experimental-rerun is not possible: the same command again resumes a run.")
    if len(chosen) > 1:
        single = " --cfg job shows one run's configuration: leave -m away." if args.multirun and args.cfg else ""
        raise UserError(f"{' and '.join(chosen)} are not possible together: give one of them.{single}")
    if args.resolve and not (args.cfg or args.help):
        raise UserError("--resolve is for --cfg: give both, as in --cfg job --resolve.")
    if args.package is not None and not args.cfg:
        raise UserError("--package is for --cfg: give both, as in --cfg job --package trainer.")
    if args.shell_completion:
        if not re.fullmatch(r"(install|uninstall|query)=(bash|zsh|fish)", " ".join(args.overrides)):
            raise UserError("--shell-completion needs what to do: install=bash, uninstall=bash (or zsh, fish).")
        if args.overrides[0].startswith("query") and "COMP_LINE" not in os.environ:
            raise UserError("--shell-completion query=... is what a shell asks when Tab is pressed: install it first.")
        return words
    known = dict(zip(args.overrides, readable(args.overrides), strict=True))
    offer_timm_models(list(known.values()), [Path(args.config_dir)] if args.config_dir else [])
    return [known.get(word, word) for word in words]


def readable(overrides: list[str]) -> list[str]:
    """The overrides with `~` and `~user` at the start of a value written out, as a shell does not do behind `=`.

    Raises a UserError, with a form that works, for what Hydra's grammar cannot read.
    """
    written = []
    for index, override in enumerate(overrides):
        if override.lstrip("+~").startswith("="):
            raise UserError(f"{override} names no key: an argument is key=value or group=choice.")
        if not _parses(override):
            expanded = HOME.sub(_home, override)
            if not _parses(expanded):
                raise UserError(_unreadable(override, overrides[index - 1] if index else ""))
            override = expanded
        (parsed,) = OverridesParser.create().parse_overrides([override])
        if parsed.key_or_group in (*GROUPS, "hydra") and not isinstance(parsed.value(), str | Sweep | None):
            raise UserError(f"{override} is not possible: {parsed.key_or_group} is a group, of which one is chosen.")
        written.append(override)
    return written


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
    """The sentence for an override that cannot be read, with what to type instead."""
    key, equals, value = override.partition("=")
    if not equals:
        groups = [group for group in GROUPS if (CONFIG_DIR / group / f"{override}.yaml").is_file()]
        hint = " or ".join(f"{group}={override}" for group in groups) or "an argument is key=value or group=choice"
        if "=" in before:
            key, _, value = before.partition("=")
            quoted = shlex.quote(setting(key, f"{value} {override}"))
            hint += f"; if it belongs to the word before, quote both: {quoted}"
        return f"{override!r} is not of the form key=value: {hint}."
    if _parses(HOME.sub("x", override)):
        return f"{override}: there is no home folder {' or '.join(HOME.findall(override))}: write the path out."
    if not re.fullmatch(r"[+~]{0,2}[\w./@:-]+", key) or value[:1] in ("[", "{", "'", '"'):
        return (
            f"{override} cannot be read: a value is text, a number, a list [a,b] or a mapping {{a:b}}, with every "
            "bracket and quote closed; for the shell, single quotes stand around it: 'optimizer.betas=[0.9,0.99]'."
        )
    quoted = shlex.quote(setting(key, value))
    return f"{override} cannot be read: text with signs such as = ( ) [ ] needs two kinds of quotes: {quoted}."


def offer_timm_models(overrides: list[str], folders: Sequence[Path] = ()) -> None:
    """Makes `model=NAME` compose for every name that has no file in configs/model: the rest as in resnet50.yaml.

    `folders`: of the user's own configurations, besides those of hydra.searchpath. Raises a UserError for a group
    without a choice, which Hydra answers with a traceback.
    """
    folders = [CONFIG_DIR, *folders, *_search_path(overrides)]
    for override in overrides:
        key, _, value = override.partition("=")
        if value in ("", "null") and key in GROUPS:
            choices = sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml"))
            raise UserError(f"{key}={value} is not possible: {key} is one of {', '.join(choices)}.")
        for name in value.split(",") if key == "model" else ():
            if name and not any((folder / "model" / f"{name}.yaml").exists() for folder in folders):
                node: Any = OmegaConf.load(CONFIG_DIR / "model" / "resnet50.yaml")
                node.name = name
                group, _, last = f"model/{name}".rpartition("/")
                ConfigStore.instance().store(group=group, name=last, node=node, package="model")


def _search_path(overrides: list[str]) -> list[Path]:
    """The folders of hydra.searchpath. Raises a UserError for one that does not exist."""
    given = [override for override in overrides if override.partition("=")[0].lstrip("+") == "hydra.searchpath"]
    folders: list[Path] = []
    for override in OverridesParser.create().parse_overrides(given):
        places = override.value()
        if not isinstance(places, list):
            raise UserError(
                f"hydra.searchpath={places} is not possible: it must be a list, as in 'hydra.searchpath=[a]'."
            )
        folders += [Path(str(place).removeprefix("file://")) for place in places if "pkg://" not in str(place)]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"hydra.searchpath: there is no folder {folder}.")
    return folders
