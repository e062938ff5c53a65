"""Random numbers as pure functions of what they are for, so that nothing that happened before can change them."""

from functools import lru_cache
from typing import Any

import numpy as np

# The order of an epoch; one image's augmentation; dropout and its like; directions in landscapes. None share a number.
ORDER, SAMPLE, NOISE, DIRECTION = 1, 2, 3, 4


def generator(stream: int, *key: int) -> np.random.Generator:
    return np.random.default_rng((stream, *key))


def seed(stream: int, *key: int) -> int:
    """A seed of 64 bits for a generator that is not NumPy's."""
    return int(np.random.SeedSequence((stream, *key)).generate_state(1, np.uint64)[0])


def uniforms(count: int, stream: int, *key: int) -> np.ndarray:
    """So many numbers from U[0, 1): the same as ever for the same key, whose last part counts what they are drawn for.

    Philox computes random numbers from a counter, so what is drawn for one image or another costs no new generator.
    """
    philox, state = _philox(stream, *key[:-1])
    state["state"]["counter"][1] = key[-1]
    philox.bit_generator.state = state
    return philox.random(count)


@lru_cache(maxsize=16)
def _philox(*key: int) -> tuple[np.random.Generator, Any]:
    """A generator, and its state before the first number; the second word of the counter is free."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint64)
    philox = np.random.Generator(np.random.Philox(key=words))
    return philox, philox.bit_generator.state
