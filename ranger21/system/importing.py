"""Import large packages in less time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collecting_garbage() -> Iterator[None]:
    """Context manager around the imports of torch and what is built on it, which take a third less time with it.

    They make hundreds of thousands of objects that live until the process ends. Python's garbage collector would look
    through them during the imports, later, and at the end. It is off inside, and ignores afterwards all that exists.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
