"""Drift: whether live texts still resemble the encoder's training texts. The world changes; it is no fault of the platform.

Every figure is compared with the value from chance alone at these sample sizes. Where chance could reach the first mark, the
verdict is `too few`, never `stable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from twinline.contract.canonical import JSON

Verdict = Literal["stable", "moderate", "drifted", "too few"]
Values = NDArray[np.float64]

# Quintiles, not the customary deciles: the noise of PSI grows with the bins, and half the bins need half the texts.
BINS: Final = 5
# Stands in for the share of an empty bin, whose logarithm would be infinite.
EMPTY_SHARE: Final = 1e-4
# z of 99 %, one-sided and two-sided, and the Kolmogorov distribution's 99 % quantile.
_Z_ONE_SIDED: Final = 2.326
_Z_TWO_SIDED: Final = 2.576
_KOLMOGOROV: Final = 1.628
# The marks of `moderate` and `drifted`. PSI: customary in credit scoring (Siddiqi, Credit Risk Scorecards, 2006). The others are
# our choice: KS and rates have no customary marks. An unknown token is rarer than a long text, so its marks are lower.
MARKS: Final[Mapping[str, tuple[float, float]]] = {
    "psi": (0.10, 0.25),
    "ks": (0.15, 0.30),
    "truncated": (0.10, 0.20),
    "unknown_share": (0.05, 0.10),
}


@dataclass(frozen=True, slots=True)
class Features:
    """The figures of n texts: numbers, never the text.

    Attributes:
        token_count: `(n,)`, special tokens included, after truncation.
        truncated: `(n,)`, 1 where the text was cut at the token limit.
        similarity: `(n,)`, cosine to the nearest vector of the training sample.
        unknown_share: `(n,)`, share of the tokens that are the unknown token; None where the tokenizer has none.
        independent: number of texts that are independent of each other: queries are, chunks of one document are not.
    """

    token_count: Values
    truncated: Values
    similarity: Values
    unknown_share: Values | None
    independent: int

    @property
    def count(self) -> int:
        """Return n."""
        return len(self.token_count)

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form, one list a feature."""
        return {
            "token_count": self.token_count.tolist(),
            "truncated": self.truncated.tolist(),
            "similarity": self.similarity.tolist(),
            "unknown_share": None if self.unknown_share is None else self.unknown_share.tolist(),
            "independent": self.independent,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the JSON form."""
        token_count, truncated, similarity = (
            np.array(value[name], np.float64) for name in ("token_count", "truncated", "similarity")
        )
        shares = value["unknown_share"]
        unknown = None if shares is None else np.array(shares, np.float64)
        return cls(token_count, truncated, similarity, unknown, value["independent"])


@dataclass(frozen=True, slots=True)
class DriftFigure:
    """One comparison. Without drift, chance alone exceeds `noise` once in a hundred times."""

    feature: str
    statistic: str
    value: float
    noise: float
    moderate_from: float
    drifted_from: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Distribution:
    """A continuous feature of the reference: the inner edges of its quantile bins, open at both ends, and its sorted values."""

    edges: Values
    shares: Values
    values: Values

    @classmethod
    def of(cls, values: Values, bins: int = BINS) -> Self:
        """Return the distribution of `values` `(n,)`, n > 0; ties may leave fewer than `bins` bins."""
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        return cls(edges, _shares(values, edges), np.sort(values))

    @property
    def bins(self) -> int:
        """Return the number of bins."""
        return len(self.shares)


@dataclass(frozen=True, slots=True)
class Profile:
    """The reference for one role: distributions of the continuous features, rates of the others, and the number of texts.

    `unknown_share` is absent for a tokenizer without an unknown token.
    """

    distributions: Mapping[str, Distribution]
    rates: Mapping[str, float]
    texts: int
    independent: int

    @classmethod
    def of(cls, features: Features) -> Self:
        """Return the profile of the reference's texts; at least one."""
        continuous = {"token_count": features.token_count, "similarity": features.similarity}
        return cls(
            {name: Distribution.of(values) for name, values in continuous.items()},
            _rates(features),
            features.count,
            features.independent,
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the JSON form without the raw values, which go into a file of arrays."""
        bins: dict[str, JSON] = {
            name: {"edges": distribution.edges.tolist(), "shares": distribution.shares.tolist()}
            for name, distribution in self.distributions.items()
        }
        return {"distributions": bins, "rates": dict(self.rates), "texts": self.texts, "independent": self.independent}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], raw: Mapping[str, Values]) -> Self:
        """Read the JSON form; `raw` has each distribution's sorted values. A missing part is a KeyError."""
        distributions = {
            name: Distribution(np.array(entry["edges"], np.float64), np.array(entry["shares"], np.float64), raw[name])
            for name, entry in value["distributions"].items()
        }
        return cls(distributions, value["rates"], value["texts"], value["independent"])


def compare(reference: Profile, sample: Features) -> list[DriftFigure]:
    """Return PSI and KS of the continuous features, and the differences of the rates; an empty list for an empty sample."""
    if sample.count == 0:
        return []
    continuous = {"token_count": sample.token_count, "similarity": sample.similarity}
    sizes = (reference.independent, sample.independent)
    figures = []
    for name, values in continuous.items():
        known = reference.distributions[name]
        index = psi(known.shares, _shares(values, known.edges))
        figures.append(_figure(name, "psi", index, psi_noise(known.bins, *sizes)))
        figures.append(_figure(name, "ks", ks(known.values, values), _KOLMOGOROV * _both(*sizes) ** 0.5))
    for name, rate in _rates(sample).items():
        if name in reference.rates:
            before = reference.rates[name]
            figures.append(_figure(name, "rate", rate - before, _rate_noise(before, rate, *sizes)))
    return figures


def psi(expected: Values, actual: Values) -> float:
    """Return the population stability index of two sets of shares `(bins,)`: sum of (a - e) * ln(a / e).

    It is Jeffreys' divergence (Kullback-Leibler both ways). Source: Siddiqi, Credit Risk Scorecards (2006). An empty bin
    counts as `EMPTY_SHARE`.
    """
    e, a = np.maximum(expected, EMPTY_SHARE), np.maximum(actual, EMPTY_SHARE)
    return float(np.sum((a - e) * np.log(a / e)))


def psi_noise(bins: int, n: int, m: int) -> float:
    """Return the PSI that two samples of one distribution exceed once in a hundred times.

    Without drift PSI / (1/n + 1/m) follows chi-square with bins - 1 degrees of freedom, so its mean is
    (bins - 1) * (1/n + 1/m) (Yurdakul, Statistical Properties of Population Stability Index, 2018). The quantile is the
    approximation of Wilson and Hilferty (1931). With five bins and many reference texts, the smallest sufficient sample is 134;
    with 300 reference documents it is 240.
    """
    freedom = bins - 1
    if freedom == 0:
        return 0.0
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _Z_ONE_SIDED * spread**0.5) ** 3 * _both(n, m))


def ks(first: Values, second: Values) -> float:
    """Return the two-sample Kolmogorov-Smirnov statistic: the largest distance of the two cumulative distributions."""
    places = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def _rate_noise(before: float, after: float, n: int, m: int) -> float:
    pooled = (before * n + after * m) / (n + m)
    # The normal approximation gives 0 where both samples have none, but (1 - p) ** n = 0.01 at p = 4.6 / n.
    return max(_Z_TWO_SIDED * float((pooled * (1 - pooled) * _both(n, m)) ** 0.5), 4.6 / min(n, m))


def _both(n: int, m: int) -> float:
    return 1 / n + 1 / m


def _shares(values: Values, edges: Values) -> Values:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return counts / len(values)


def _rates(features: Features) -> dict[str, float]:
    rates = {"truncated": float(features.truncated.mean())}
    if features.unknown_share is not None:
        rates["unknown_share"] = float(features.unknown_share.mean())
    return rates


def _figure(feature: str, statistic: str, value: float, noise: float) -> DriftFigure:
    moderate, drifted = MARKS[feature if statistic == "rate" else statistic]
    size = abs(value)
    verdict: Verdict = "stable"
    if noise > moderate:
        verdict = "too few"
    elif size >= drifted:
        verdict = "drifted"
    elif size >= moderate:
        verdict = "moderate"
    return DriftFigure(feature, statistic, value, noise, moderate, drifted, verdict)
