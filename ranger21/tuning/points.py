"""The points of the unit cube that every optimizer's trials come from: one quasi-random sequence, the same for all."""

import functools

import numpy as np
from scipy.stats import qmc

DIMENSIONS = 8  # of every point, whatever a space uses of it, or the points would depend on it
SEED = 16  # of the scrambling
MOST = 1024  # trials

Point = tuple[float, ...]


@functools.cache
def unit_points(count: int) -> tuple[Point, ...]:
    """Return the first `count` points of a scrambled Sobol' sequence (Owen 1998; Joe and Kuo 2008) in [0, 1).

    The first n of a longer sequence are those of a shorter one.
    """
    power = max(0, count - 1).bit_length()
    found = qmc.Sobol(DIMENSIONS, scramble=True, seed=np.random.default_rng(SEED)).random_base2(power)
    return tuple(tuple(map(float, point)) for point in found[:count])
