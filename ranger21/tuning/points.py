"""The points of the unit cube that all optimizers' trials use: one fixed quasi-random sequence."""

import functools

import numpy as np
from scipy.stats import qmc

DIMENSIONS = 8  # fixed, so that the points do not depend on the number of dimensions of a space
SEED = 16  # seed of the scrambling
MOST = 1024  # the largest number of trials

Point = tuple[float, ...]


@functools.cache
def unit_points(count: int) -> tuple[Point, ...]:
    """Return the first `count` points of a scrambled Sobol' sequence (Owen 1998; Joe and Kuo 2008) in [0, 1).

    A longer sequence begins with the points of a shorter one.
    """
    power = max(0, count - 1).bit_length()
    found = qmc.Sobol(DIMENSIONS, scramble=True, seed=np.random.default_rng(SEED)).random_base2(power)
    return tuple(tuple(map(float, point)) for point in found[:count])
