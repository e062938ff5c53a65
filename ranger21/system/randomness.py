"""Random numbers as pure functions of their purpose (a stream and a key), independent of any earlier draws."""

from functools import lru_cache
from typing import Any

import numpy as np

# Streams: an epoch's order, an image's augmentation, dropout and similar noise, directions in loss landscapes, random
# erasing, and mixup and cutmix.
ORDER, SAMPLE, NOISE, DIRECTION, ERASE, MIX = 1, 2, 3, 4, 5, 6


def generator(stream: int, *key: int) -> np.random.Generator:
    """Return NumPy's default generator seeded by a stream and a key."""
    return np.random.default_rng((stream, *key))


def seed(stream: int, *key: int) -> int:
    """Return a 64-bit seed for a generator other than NumPy's."""
    return int(np.random.SeedSequence((stream, *key)).generate_state(1, np.uint64)[0])


def uniforms(count: int, stream: int, *key: int) -> np.ndarray:
    """Return `count` numbers from U[0, 1), determined by the stream and the key.

    The last part of the key is an index, such as an image's. It becomes Philox's counter, so that another index needs
    no new generator.
    """
    philox, state = _philox(stream, *key[:-1])
    state["state"]["counter"][1] = key[-1]
    philox.bit_generator.state = state
    return philox.random(count)


@lru_cache(maxsize=16)
def _philox(*key: int) -> tuple[np.random.Generator, Any]:
    """Return a generator and its initial state, whose counter's second word is free for an index."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint64)
    philox = np.random.Generator(np.random.Philox(key=words))
    return philox, philox.bit_generator.state
