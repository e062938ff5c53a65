"""The authors' package, which PyPI has as `ranger21`: it has the same import name, and the same file `__init__.py`."""

import importlib.metadata
import sys
import warnings

THEIRS, OURS = "ranger21", "ranger21-imagenet"  # as pip names them


def is_replaced() -> bool:
    """Return whether `ranger21/__init__.py` is the authors': theirs was installed into the same folder after ours."""
    return "explore_exploit" not in getattr(sys.modules["ranger21"], "__all__", ())


def namesake() -> str | None:
    """Return a sentence that says what to do if the authors' package is installed as well, else None.

    pip takes no notice of the two having a file of one name: who comes last replaces it, and who goes first deletes it.
    """
    try:
        version = importlib.metadata.version(THEIRS)
    except importlib.metadata.PackageNotFoundError:
        if not is_replaced():
            return None
        version = "(unknown to pip)"
    state = f"has replaced files of {OURS}" if is_replaced() else f"has files of the same names as {OURS}"
    return (
        f"The authors' package ranger21 {version} is installed, too, and {state}. Keep them in separate environments. "
        f"For this one alone: pip uninstall ranger21 {OURS}, then install {OURS} again."
    )


def warn_of_namesake() -> None:
    """Warn if the authors' package is installed as well."""
    if told := namesake():
        warnings.warn(told, stacklevel=2)
