"""Formatting of foreign errors, untrusted names and long lists for messages. Imports no torch."""

import hashlib
from collections.abc import Callable, Sequence


def printable(text: str) -> str:
    """Return a text with control and other unprintable characters escaped, except newlines and tabs."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str, most: int = 200) -> str:
    """Return an untrusted text as one printable line for a sentence, a table or a figure.

    A text of more than `most` characters is cut and marked with its length and a hash, so that different texts stay
    different.
    """
    shown = printable(text[: most + 1]).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) <= most and len(shown) <= most:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:6]
    return f"{shown[: most // 2]}… ({len(text):,} characters, {digest})"


def defused(text: str) -> str:
    """Return a text as a CSV cell that no spreadsheet reads as a formula; numbers are unchanged."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return text


def reason(error: BaseException, most: int = 200) -> str:
    """Return the first `most` characters of an error's message in one line, or its type where it has no message."""
    return " ".join(str(error).split())[:most].rstrip(".") or type(error).__name__


def shown(value: object, how: Callable[[object], str] = repr, most: int = 80) -> str:
    """Return the first `most` characters of a value in one line, or its type if it cannot be formatted."""
    try:
        text = " ".join(how(value).split())
    except Exception:  # for example, an integer of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


def first_few(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """Return the first names and the number of the others: `a, b, c and 7 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{between.join(names[:most])}{more}"


def counted(number: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is 1: `1 run`, `1,200 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
