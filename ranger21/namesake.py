"""Detection of the authors' PyPI package `ranger21`, which has the same import name and the same `__init__.py`."""

import importlib.metadata
import sys
import warnings

THEIRS, OURS = "ranger21", "ranger21-imagenet"  # names on PyPI


def is_replaced() -> bool:
    """Return whether `ranger21/__init__.py` is the authors', because their package was installed over ours."""
    return "explore_exploit" not in getattr(sys.modules["ranger21"], "__all__", ())


def namesake() -> str | None:
    """Return a warning with instructions if the authors' package is also installed, else None.

    pip does not notice that both packages own the same file: the one installed last replaces it, and uninstalling
    either deletes it.
    """
    try:
        version = importlib.metadata.version(THEIRS)
    except importlib.metadata.PackageNotFoundError:
        if not is_replaced():
            return None
        version = "(unknown to pip)"
    state = f"has replaced files of {OURS}" if is_replaced() else f"shares file names with {OURS}"
    return (
        f"The authors' package ranger21 {version} is also installed and {state}. Use separate environments. To keep "
        f"only {OURS} here: pip uninstall ranger21 {OURS}, then install {OURS} again."
    )


def warn_of_namesake() -> None:
    """Warn if the authors' package is also installed."""
    if told := namesake():
        warnings.warn(told, stacklevel=2)
