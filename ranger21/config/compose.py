"""Composition by Hydra and conversion to the typed configuration. Imports no torch."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ranger21.config import (
    RETIRED,
    SEEDS,
    VARIANTS,
    Config,
    ModelConfig,
    ProtocolConfig,
    RecordsConfig,
    TrainerConfig,
    TuningConfig,
)
from ranger21.config.mistakes import CONFIG_ERRORS, explain, unknown_key
from ranger21.config.overrides import offer_timm_models, readable
from ranger21.system.checks import require_types
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR
from ranger21.tracking.loggers.several import Several, member_named

# Parts with a single variant.
PARTS = {
    "model": ModelConfig,
    "trainer": TrainerConfig,
    "protocol": ProtocolConfig,
    "records": RecordsConfig,
    "tuning": TuningConfig,
}


def parse(composed: DictConfig) -> Config:
    """Convert a composed configuration to a Config. Raises a UserError that names the key and its possible values."""
    parts: dict[str, Any] = {}
    try:
        for f in fields(Config):
            if f.name not in composed and not (f.default is MISSING and f.default_factory is MISSING):
                continue  # older runs lack this key
            if f.name not in composed:
                raise UserError(f"{f.name} is missing, but a run needs it: omit ~{f.name}.")
            node = composed[f.name]
            if f.name == "experiment" and OmegaConf.is_config(node):
                raise UserError(
                    "The file of experiment= must begin with the line '# @package _global_' and contain a mapping."
                )
            if f.name in VARIANTS:
                cls = VARIANTS[f.name].get(node.get("name"))
                if cls is None:
                    choices = ", ".join(VARIANTS[f.name])
                    raise UserError(f"{f.name}.name={node.get('name')} is invalid: it must be one of {choices}.")
                own = {one.name for one in fields(cls)} | {key.partition(".")[2] for key in RETIRED}
                if len(set(node) - own) > 1:
                    name = node.get("name")
                    raise UserError(
                        f"{f.name}.name={name} does not fit the other keys of {f.name}: give {f.name}={name} instead."
                    )
                parts[f.name] = (_several if issubclass(cls, Several) else _typed)(cls, node, f.name)
            elif f.name in PARTS:
                parts[f.name] = _typed(PARTS[f.name], node, f.name)
            else:
                parts[f.name] = node
        unknown = set(composed) - set(parts)
        if unknown:
            raise UserError(unknown_key(sorted(map(str, unknown))[0], list(parts)))
        top = OmegaConf.structured(Config)
        names = [n for n in ("experiment", *SEEDS, "outputs", "run_dir", "resume", "debug") if n in parts]
        require_types(Config, {name: _plain(parts[name]) for name in names})
        for name in names:
            top[name] = parts[name]
            parts[name] = top[name]
        return Config(**parts)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _typed(cls: type, node: DictConfig, prefix: str) -> Any:
    try:
        schema, values = OmegaConf.structured(cls), OmegaConf.to_container(node, resolve=True)
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if f"{prefix}.{key}" not in RETIRED}  # type: ignore[str-bytes-safe]
        if isinstance(values, dict):
            require_types(cls, {str(key): value for key, value in values.items()}, f"{prefix}.")
        return OmegaConf.to_object(OmegaConf.merge(schema, values))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, prefix, [f.name for f in fields(cls)])) from error


def _several(cls: type, node: DictConfig, prefix: str) -> Any:
    """Return the settings of several loggers, each checked as if it were the only one."""
    names = [f.name for f in fields(cls) if f.name != "name"]
    members = {}
    for name in (str(key) for key in node if key != "name" and node[key] is not None):
        key, inner = f"{prefix}.{name}", node[name]
        if name not in names:
            raise UserError(unknown_key(key, names))
        if not isinstance(inner, DictConfig) or inner.get("name") != name:
            raise UserError(f"{key} is invalid: choose the loggers as a list, as in 'logger=[{','.join(names[:2])}]'.")
        with member_named(name):
            members[name] = _typed(VARIANTS[prefix][name], inner, key)
    return cls(node.name, **members)


def compose_config(overrides: list[str]) -> Config:
    """Return the configuration of `train.py` with these command-line arguments."""
    words = readable(overrides)
    offer_timm_models(words)
    if GlobalHydra.instance().is_initialized():
        return parse(compose("config", words))
    with composing():
        return parse(compose("config", words))


class Composer:
    """Composes many commands with the same group choices several times faster than `compose_config`.

    Use it only inside `composing`.
    """

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: list[str]) -> Config:
        """Return the configuration of `train.py` with these command-line arguments."""
        words = readable(overrides)
        offer_timm_models(words)
        parsed = OverridesParser.create().parse_overrides(words)
        values = [one for one in parsed if "." in one.key_or_group and not one.is_hydra_override()]
        choices = tuple(str(one.input_line) for one in parsed if one not in values)
        if choices not in self._composed:
            self._composed[choices] = compose("config", list(choices))
        node = copy.deepcopy(self._composed[choices])
        ConfigLoaderImpl._apply_overrides_to_config(values, node)  # in the same order as Hydra, after the choices
        return parse(node)


@contextlib.contextmanager
def composing() -> Iterator[None]:
    """Set up Hydra with only the project's own files. Around many calls of `compose_config`, this halves their time."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def with_overrides(values: dict[str, Any], overrides: list[str]) -> Config:
    """Apply command-line arguments to a run's configuration from its checkpoint.

    A choice (`data=fashion_mnist`) replaces that whole part. Raises a UserError for arguments that cannot be applied.
    """
    words = readable(overrides)
    offer_timm_models(words)
    keys = {word.partition("=")[0] for word in words}
    for key in keys & {"experiment", "ablation"}:
        raise UserError(
            f"{key}= would replace the whole configuration of the run: choose parts of it, such as data=...."
        )
    node = {key: value for key, value in values.items() if key not in keys}
    chosen = _choices(node)
    ConfigStore.instance().store(group="checkpoint", name="values", node=node, package="_global_")
    try:
        with composing():
            return parse(compose("config", [*chosen, "+checkpoint=values", *words]))
    except CONFIG_ERRORS as error:
        raise UserError(explain(error)) from error


def _choices(values: dict[str, Any]) -> list[str]:
    """Return the choices of a run's configuration as overrides.

    Raises a UserError for keys that Hydra would act on; train.py never writes them, but the file may be untrusted.
    """
    for key in {"defaults", "hydra"} & values.keys():
        raise UserError(f"The configuration of a run contains {key!r}, so train.py did not write it.")
    chosen: list[str] = []
    for group in (group for group in VARIANTS if group in values):
        name = values[group].get("name") if isinstance(values[group], dict) else None
        if not isinstance(name, str) or name not in VARIANTS[group]:
            raise UserError(f"{group}={name!r} of a run is invalid: choose one of {', '.join(VARIANTS[group])}.")
        chosen.append(f"{group}={name}")
    return chosen
