"""Error messages for Hydra's and OmegaConf's exceptions, with the key, the value and the possible values."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from ranger21.config.groups import GROUPS
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

CONFIG_ERRORS = (HydraException, OmegaConfBaseException)


def unknown_key(key: str, choices: list[str], elsewhere: Iterable[str] = ()) -> str:
    """Return the error message for a key that does not exist, with the nearest existing keys.

    Args:
        key: dotted.
        choices: the keys of its parent.
        elsewhere: dotted keys of other parts that may be meant.
    """
    if key.startswith("model.kwargs."):
        return f"To pass timm an argument that configs/ does not set, write a plus sign before it: +{key}=..."
    parent, _, last = key.rpartition(".")
    own = {f"{parent}.{choice}".lstrip("."): choice for choice in choices}
    near = _nearest(last, own | {other: other.rpartition(".")[2] for other in elsewhere if other not in own})
    hint = f" Did you mean {' or '.join(near[:3])}?" if near else ""
    return f"There is no key {key}.{hint} {parent or 'The configuration'} has: {', '.join(choices)}."


def _nearest(name: str, names: dict[str, str]) -> list[str]:
    """Return the dotted keys (of `names`, with their last parts) that `name` may stand for, by the best criterion."""
    words = set(name.split("_"))
    typing_errors = difflib.get_close_matches(name, set(names.values()), n=1, cutoff=0.75)
    likenesses: list[Callable[[str], bool]] = [
        lambda other: other == name,
        lambda other: name == _initials(other) or other == _initials(name),
        lambda other: other in typing_errors,
        lambda other: words < set(other.split("_")) or set(other.split("_")) < words,
    ]
    return next(filter(None, ([key for key, other in names.items() if like(other)] for like in likenesses)), [])


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_")) if "_" in name else ""


def explain(error: Exception, prefix: str = "", choices: list[str] | None = None) -> str:
    """Return the error message for an exception of Hydra or OmegaConf, with the key and the choices.

    Args:
        error: The exception.
        prefix: The dotted key of the part in which it was raised.
        choices: The keys of that part. None takes them from the exception.
    """
    if isinstance(error, MissingConfigException) and error.options:
        return _unknown_choice(str(error.missing_cfg_file), list(error.options))
    if isinstance(error, OverrideParseException):
        what = str(error).splitlines()[0]
        return f"{error.override} is not of the form key=value, with the value quoted for the shell ({what})."
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) and error.__cause__ else error
    first_line = str(cause).splitlines()[0]
    key = ".".join(part for part in (prefix, str(getattr(cause, "full_key", None) or "")) if part)
    if type(cause).__name__ in ("ConfigKeyError", "ConfigAttributeError") and key:
        return _unknown_in(getattr(cause, "parent_node", None), key, choices)
    if type(cause).__name__ == "MissingMandatoryValue":
        return f"{key} has no value: give it one."
    if isinstance(cause, ValidationError | InterpolationResolutionError) and key:
        return f"{key}: {first_line}."
    return " ".join(str(error).split()) + ("" if cause is error else f": {first_line}.")


def _unknown_choice(file: str, options: list[str]) -> str:
    group, _, name = file.rpartition("/")
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.75)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{group}={name} does not exist: {group} is one of {', '.join(options)}.{hint}"


def _unknown_in(parent: Any, key: str, choices: list[str] | None) -> str:
    """Return the error message for a key that its parent, a node of the configuration, does not have."""
    if choices is not None or not isinstance(parent, DictConfig):
        return unknown_key(key, choices or [])
    names = [str(name) for name in parent if name != "hydra"]
    if parent._get_parent() is None:
        names += [group for group in GROUPS if group not in names]
    return unknown_key(key, names, _leaves(parent._get_root()))


def uncomposed(error: Exception) -> Exception:
    """Return the error to raise for any error during composition, such as a file that is not YAML."""
    if isinstance(error, (UserError, *CONFIG_ERRORS)):
        return error
    return UserError(
        f"The configuration cannot be composed ({type(error).__name__}: {reason(error, 500)}): check your own "
        "configuration files, and settings below hydra."
    )


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key below a node, except Hydra's own."""
    for name in node:
        child = node._get_node(name)
        if isinstance(child, DictConfig) and child._is_none() is False and child._is_missing() is False:
            if prefix or name != "hydra":
                yield from _leaves(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
