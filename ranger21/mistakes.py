"""From Hydra's and OmegaConf's complaints to sentences that name the key, the value and what is possible."""

import difflib

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


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
