"""From Hydra's composition to a typed configuration. Imports no torch."""

from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ranger21.config import VARIANTS, Config, ModelConfig, TrainerConfig
from ranger21.errors import UserError
from ranger21.mistakes import explain, unknown_key

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"


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
