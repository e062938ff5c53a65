"""Bayesian linear regression with conjugate priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import t as student

from ranger21.meta.features import MAIN, Term

Array = NDArray[np.float64]
CONSTANT = 100.0  # prior variance of the intercept, in units of the noise variance, like the next two
RATIO = 4.0  # prior variance of main effects over that of pairs
CURVED = 1.0  # minus the prior mean of the squares of numbers, in standard deviations of the responses
SCALES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # prior variances of pairs; the likeliest is used
A0, B0 = 1.0, 0.002  # shape and rate of the noise variance: a weak prior at sd 0.045, half a point at 88 % top-1


@dataclass(frozen=True)
class Posterior:
    """The posterior of θ and σ² of y = X θ + ε, ε ~ N(0, σ²) (Bishop 2006, section 3.3; Murphy 2012, section 7.6.3).

    The prior is θ | σ² ~ N(m0, σ² V0) and σ² ~ InvGamma(a0, b0), so the posterior has the same form: θ | σ² ~ N(mean,
    σ² V) and σ² ~ InvGamma(a, b).

    Attributes:
        mean: the posterior mean of θ.
        root: the symmetric square root of V.
        a, b: shape and rate of the inverse gamma distribution.
        evidence: the logarithm of the marginal likelihood of y.
    """

    mean: Array
    root: Array
    a: float
    b: float
    evidence: float

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a draw of θ."""
        variance = self.b / rng.gamma(self.a)
        return self.mean + np.sqrt(variance) * (self.root @ rng.standard_normal(len(self.mean)))

    def interval(self, x: Array, confidence: float = 0.95) -> tuple[float, float, float]:
        """Return mean, lower and upper limit of x · θ, whose marginal posterior is Student's t with 2a degrees."""
        center = float(x @ self.mean)
        scale = float(np.sqrt(self.b / self.a) * np.linalg.norm(self.root.T @ x))
        reach = scale * float(student.ppf(0.5 + confidence / 2, 2 * self.a))
        return center, center - reach, center + reach


def fit(x: Array, y: Array, terms: Sequence[Term]) -> Posterior:
    """Return the posterior given vectors x (n, d) and responses y (n,).

    The prior's scale is the one of `SCALES` with the greatest marginal likelihood (empirical Bayes). The prior mean of
    the squares of numbers is negative: the ends of a range are expected to be worse than its middle. With mean 0, half
    of the parabolas drawn would open upwards, and most arms would be proposed at an end.
    """
    m0 = np.array([-CURVED * y.std() if term.is_square else 0.0 for term in terms])
    rest = y - x @ m0
    v0 = max((_prior(terms, scale) for scale in SCALES), key=lambda v0: _marginal(x, rest, v0).evidence)
    found = _fit(x, rest, v0)
    return replace(found, mean=m0 + found.mean)


def _prior(terms: Sequence[Term], scale: float) -> Array:
    """Return the diagonal of V0."""
    return np.array(
        [CONSTANT if not term.name else scale * RATIO if term.kind == MAIN else scale for term in terms],
    )


@dataclass(frozen=True)
class _Marginal:
    """The distribution of y without θ and σ²: multivariate t, with scale matrix (b0 / a0) (I + X V0 X^T).

    Attributes:
        lower: the Cholesky factor L of I + X V0 X^T.
        white: L^-1 y.
        a, b, evidence: see `Posterior`.
    """

    lower: Array
    white: Array
    a: float
    b: float
    evidence: float


def _marginal(x: Array, y: Array, v0: Array) -> _Marginal:
    n = len(y)
    lower = np.linalg.cholesky(np.eye(n) + (x * v0) @ x.T)
    white: Array = np.linalg.solve(lower, y).astype(np.float64)
    a, b = A0 + n / 2, B0 + float(white @ white) / 2
    evidence = gammaln(a) - gammaln(A0) + A0 * np.log(B0) - a * np.log(b) - np.log(np.diag(lower)).sum()
    return _Marginal(lower, white, a, b, float(evidence - n / 2 * np.log(2 * np.pi)))


def _fit(x: Array, y: Array, v0: Array) -> Posterior:
    # V = V0 - V0 X^T (I + X V0 X^T)^-1 X V0: an inverse of size n, because there are more terms than observations.
    found = _marginal(x, y, v0)
    gain = np.linalg.solve(found.lower, x * v0)
    values, vectors = np.linalg.eigh(np.diag(v0) - gain.T @ gain)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T  # unlike the eigenvectors, it is unique
    return Posterior(gain.T @ found.white, root, found.a, found.b, found.evidence)
