"""Random numbers as pure functions of what they are for, so that nothing that happened before can change them."""

import numpy as np

ORDER, SAMPLE, NOISE = (
    1,
    2,
    3,
)  # of an epoch; of one image's augmentation; of dropout and its like. No two share a number


def generator(stream: int, *key: int) -> np.random.Generator:
    return np.random.default_rng((stream, *key))


def seed(stream: int, *key: int) -> int:
    """A seed of 64 bits for a generator that is not NumPy's."""
    return int(np.random.SeedSequence((stream, *key)).generate_state(1, np.uint64)[0])
