"""The statistics of an audit: what a few thousand numbers say about mu, spread and independence.

Every function is pure. ``level`` is the probability that a sound mechanism fails the check.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its part `stats` takes long to import; it comes at its first use
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]


def mu_lower(inside: Floats, outside: Floats, confidence: float) -> float:
    """One-sided lower confidence bound on mu = (gap of the means) / (standard deviation).

    ``inside`` and ``outside`` are scores of units that took part or were nulled, independent, with
    distributions N(m + mu * s, s^2) and N(m, s^2); m and s are not known. With n and k scores and
    the pooled s^2 on f = n + k - 2 degrees of freedom, gap / s is a scaled noncentral t: close to
    normal for f above 100, with mean mu and variance 1/n + 1/k + mu^2 / 2f (Johnson, Welch 1940:
    Applications of the Non-Central t-Distribution). Solved with the estimate in the variance.
    Infinity where scores differ but have no spread: nothing hides the unit.
    """
    n, k = len(inside), len(outside)
    f = n + k - 2
    gap = float(inside.mean() - outside.mean())
    spread = math.sqrt((float(inside.var()) * n + float(outside.var()) * k) / f)
    if spread <= 1e-12 * abs(gap):
        return math.inf if gap > 0 else 0.0
    mu = gap / spread
    error = math.sqrt(1 / n + 1 / k + mu * mu / (2 * f))
    return max(0.0, mu - float(ndtri(confidence)) * error)


def mu_lower_any(inside: Floats, outside: Floats, threshold: float, confidence: float) -> float:
    """The same without any assumption on the noise's distribution, hence looser.

    The attack says "took part" above ``threshold``, which is fixed before the scores are seen. A
    mu-GDP mechanism allows no attack with Phi^-1(true positives) - Phi^-1(false positives) > mu
    (Dong, Roth, Su 2019); both rates are bounded after Clopper, Pearson (1934), each at half of
    the error probability (Nasr et al. 2023: Tight Auditing of Differentially Private Machine
    Learning).
    """
    hits = ((int((scores > threshold).sum()), len(scores)) for scores in (inside, outside))
    found, false = (scipy.stats.binomtest(*one).proportion_ci(confidence) for one in hits)
    if found.low == 0 or false.high == 1:
        return 0.0
    return max(0.0, float(ndtri(found.low) - ndtri(false.high)))


def deviation_band(values: Floats, level: float) -> tuple[float, float, float]:
    """Standard deviation of N(0, s^2) values and the ends of its confidence interval.

    The sum of n squares over s^2 is chi-squared with n degrees of freedom.
    """
    n, total = len(values), float(np.square(values).sum())
    most, least = (float(scipy.stats.chi2.ppf(p, n)) for p in (1 - level / 2, level / 2))
    return math.sqrt(total / n), math.sqrt(total / most), math.sqrt(total / least)


def correlation(a: Floats, b: Floats) -> tuple[float, float]:
    """Correlation r of two rows of normal values with mean 0, and how likely one so large is.

    Of independent rows, r * sqrt((n - 1) / (1 - r^2)) is t with n - 1 degrees of freedom (the means
    are known). A row without any spread correlates with nothing; its deviation tells.
    """
    n, size = len(a), float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    if size == 0:
        return 0.0, 1.0
    r = float(a @ b) / size
    if abs(r) >= 1:
        return r, 0.0
    return r, 2 * float(scipy.stats.t.sf(abs(r) * math.sqrt((n - 1) / (1 - r * r)), n - 1))


def gaussian_p(values: Floats) -> float:
    """How likely values that are N(0, 1) look so little like it (Kolmogorov, Smirnov)."""
    return float(scipy.stats.kstest(values, "norm").pvalue)


def trials_needed(mu: float, confidence: float) -> int:
    """Scores for which ``mu_lower`` is above 0.7 mu, but for one audit in a thousand.

    Of N scores, half inside, the estimate has standard deviation s = sqrt((4 + mu^2 / 2) / N); the
    bound is z(confidence) s below it, and 3.1 s more are allowed for chance: 0.3 mu in all.
    """
    deviations = float(ndtri(confidence)) + 3.1
    return math.ceil((4 / (mu * mu) + 0.5) * (deviations / 0.3) ** 2)
