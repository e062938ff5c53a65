"""From Hydra's composition to a typed configuration, and from Hydra's complaints to sentences. Imports no torch."""

import difflib
import functools
import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ranger21.config import VARIANTS, Config, ModelConfig, TrainerConfig, result_values
from ranger21.errors import UserError

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def offer_timm_models(overrides: list[str]) -> None:
    """Makes `model=NAME` compose for every name that has no file in configs/model: the rest as in resnet50.yaml.

    Raises a UserError for a group without a choice, which Hydra answers with a traceback.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if value in ("", "null") and (CONFIG_DIR / key).is_dir():
            choices = sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml"))
            raise UserError(f"{key}={value} is not possible: {key} is one of {', '.join(choices)}.")
        for name in value.split(",") if key == "model" else ():
            if name and not (CONFIG_DIR / "model" / f"{name}.yaml").exists():
                node: Any = OmegaConf.load(CONFIG_DIR / "model" / "resnet50.yaml")
                node.name = name
                ConfigStore.instance().store(group="model", name=name, node=node)


def parse(composed: DictConfig) -> Config:
    """The typed configuration. Raises a UserError that names the key, and the choices where there are some."""
    parts: dict[str, Any] = {}
    try:
        for f in fields(Config):
            node = composed[f.name]
            if f.name in VARIANTS:
                cls = VARIANTS[f.name].get(node.get("name"))
                if cls is None:
                    choices = ", ".join(VARIANTS[f.name])
                    raise UserError(f"{f.name}.name={node.get('name')} is not possible: it must be one of {choices}.")
                parts[f.name] = _typed(cls, node, f.name)
            elif f.name in ("model", "trainer"):
                parts[f.name] = _typed(ModelConfig if f.name == "model" else TrainerConfig, node, f.name)
            else:
                parts[f.name] = node
        unknown = set(composed) - set(parts)
        if unknown:
            raise UserError(unknown_key(sorted(map(str, unknown))[0], list(parts)))
        top = OmegaConf.structured(Config)
        for name in ("experiment", "seed", "outputs", "run_dir", "resume", "debug"):
            top[name] = parts[name]
            parts[name] = top[name]
        return Config(**parts)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error


def _typed(cls: type, node: DictConfig, prefix: str) -> Any:
    try:
        schema = OmegaConf.structured(cls)
        return OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.to_container(node, resolve=True)))
    except OmegaConfBaseException as error:
        raise UserError(explain(error, prefix, [f.name for f in fields(cls)])) from error


def unknown_key(key: str, choices: list[str]) -> str:
    """The sentence for a key that does not exist, with the nearest that does."""
    if key.startswith("model.kwargs."):
        return f"To hand timm an argument that configs/ does not set, write a plus sign before it: +{key}=..."
    parent, _, last = key.rpartition(".")
    near = difflib.get_close_matches(last, choices, n=1)
    hint = f" Did you mean {parent + '.' if parent else ''}{near[0]}?" if near else ""
    return f"There is no key {key}.{hint} {parent or 'The configuration'} has: {', '.join(choices)}."


def explain(error: Exception, prefix: str = "", choices: list[str] | None = None) -> str:
    """One sentence for an exception of Hydra's or OmegaConf's, naming the key and the choices."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={name} does not exist: {group} is one of {', '.join(error.options)}."
    if isinstance(error, OverrideParseException):
        what = str(error).splitlines()[0]
        return f"{error.override} is not of the form key=value, with the value quoted for the shell ({what})."
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
    key = ".".join(part for part in (prefix, str(getattr(cause, "full_key", None) or "")) if part)
    if type(cause).__name__ in ("ConfigKeyError", "ConfigAttributeError") and key:
        parent = getattr(cause, "parent_node", None)
        names = choices or ([str(k) for k in parent] if isinstance(parent, DictConfig) else [])
        return unknown_key(key, names)
    first_line = str(cause).splitlines()[0]
    if type(cause).__name__ == "ValidationError":
        return f"{key}: {first_line}."
    return " ".join(str(error).split())


@functools.cache
def _plain_values(experiment: str, model: str, optimizer: str) -> dict[str, Any]:
    """What the same experiment, model and optimizer would be with nothing else chosen."""
    return result_values(compose_config([f"experiment={experiment}", f"model={model}", f"optimizer={optimizer}"]))


def compose_config(overrides: list[str]) -> Config:
    """What `train.py` would make of these command-line arguments."""
    offer_timm_models(overrides)
    if GlobalHydra.instance().is_initialized():
        return parse(compose("config", overrides))
    with composing():
        return parse(compose("config", overrides))


def composing() -> AbstractContextManager[None]:
    """Sets Hydra up. Around many calls of `compose_config` it saves half of their time."""
    return initialize_config_dir(str(CONFIG_DIR), version_base="1.3")


def run_directory(config: Config) -> Path:
    """OUTPUTS/EXPERIMENT/MODEL-OPTIMIZER-sSEED, and a hash of what else was chosen if that changes the result."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    plain = _plain_values(config.experiment, config.model.label, config.optimizer.name) | {"seed": config.seed}
    other = {key: value for key, value in result_values(config).items() if key not in plain or plain[key] != value}
    name = f"{config.model.label}-{config.optimizer.name}-s{config.seed}"
    if other:
        digest = hashlib.sha256(json.dumps(other, sort_keys=True).encode()).hexdigest()
        name += f"-{digest[:8]}"
    return Path(config.outputs) / config.experiment / name


def with_overrides(values: dict[str, Any], overrides: list[str]) -> Config:
    """A run's configuration, as its checkpoint has it, with command-line arguments applied to it."""
    node = OmegaConf.create(values)
    OmegaConf.set_struct(node, True)
    groups = {o.partition("=")[0] for o in overrides if "." not in o.partition("=")[0]}
    offer_timm_models(overrides)
    with composing():
        chosen = compose("config", [o for o in overrides if o.partition("=")[0] in groups])
        newer = compose("config", [f"data={values['data']['name']}"]).data  # keys that an older run did not have
    node.data = OmegaConf.merge(newer, node.data)
    for group in groups:
        node[group] = chosen[group]
    try:
        node.merge_with_dotlist([o for o in overrides if o.partition("=")[0] not in groups])
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    return parse(node)
