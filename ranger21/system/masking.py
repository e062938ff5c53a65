"""Masking of keys and passwords in recorded commands. Imports no torch.

Masking is heuristic: it recognizes the formats of well-known keys, passwords in URLs, and names such as `token` and
`password`. Pass keys by environment variables or a program's own login; those are never recorded.
"""

import re
from collections.abc import Sequence
from typing import Any

MASK = "***"
_KNOWN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{30,}|wandb_v1_\w{20,}|local-[0-9a-f]{40}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})"
)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"(\b[A-Za-z][\w+.-]{0,20}://)[^/\s'\"?#]{1,300}@")
_SECRET = r"(?:api|access|private|secret|signing)[_-]?keys?|tokens?|passw(?:or)?d|passphrase|pwd|secrets?|credentials?"
_NAMED = re.compile(
    rf"(?P<name>(?:^|(?<=[^A-Za-z0-9]))(?:\w{{0,40}}[_.-])?(?:{_SECRET})['\"]?)"
    r"(?P<sign>\s*[=:]\s*)(?P<value>'[^'\n]*'|\"[^\"\n]*\"|[^\s,;&'\"(){}\[\]]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"--?(?:[\w.]*[_.-])?(?:{_SECRET})", re.IGNORECASE)
_PLAIN = re.compile(r"true|false|null|none|\*\*\*", re.IGNORECASE)
_COUNT = re.compile(r"tokens?['\"]?=\d{1,5}", re.IGNORECASE)


def masked(text: str) -> str:
    """Return the text with every value that looks like a secret replaced by `***`.

    Booleans and null are kept whatever their name, and so are small token counts such as `num_tokens=5`.
    """
    text = _ADDRESS.sub(rf"\1{MASK}@", _PRIVATE.sub(MASK, text))
    return _NAMED.sub(_mask_value, _KNOWN.sub(MASK, text))


def masked_command(arguments: Sequence[str]) -> list[str]:
    """Return a command line with its secrets masked, including arguments that follow an option such as `--token`."""
    result = [masked(argument) for argument in arguments]
    for index, option in enumerate(arguments[:-1]):
        if _OPTION.fullmatch(option) and not _PLAIN.fullmatch(arguments[index + 1]):
            result[index + 1] = MASK
    return result


def masked_values(value: Any, name: str = "") -> Any:
    """Return nested dicts and lists with secrets in their strings masked, including those recognized by their key."""
    if isinstance(value, dict):
        return {key: masked_values(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    named = f"{name}={value!r}"
    return MASK if masked(value) == value and masked(named) != named else masked(value)


def _mask_value(match: re.Match[str]) -> str:
    value = match["value"]
    inner = value.strip("'\"")
    if not inner or _PLAIN.fullmatch(inner) or _COUNT.fullmatch(_last_word(match["name"]) + "=" + inner):
        return match[0]
    quote = value[0] if value[0] in "'\"" else ""
    return f"{match['name']}{match['sign']}{quote}{MASK}{quote}"


def _last_word(name: str) -> str:
    return re.split(r"[_.-]", name)[-1]
