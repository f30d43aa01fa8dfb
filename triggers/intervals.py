"""How sure a measured figure is: intervals of shares, of their differences and of means.

All intervals are two-sided at 95 %. Sources:

- one share: E. B. Wilson (1927), "Probable inference, the law of succession, and statistical
  inference", Journal of the American Statistical Association 22, 209-212;
- difference of two shares: R. G. Newcombe (1998), "Interval estimation for the difference between
  independent proportions", Statistics in Medicine 17, 873-890, method 10;
- ratio of two shares: D. Katz et al. (1978), "Obtaining confidence intervals for the risk ratio in
  cohort studies", Biometrics 34, 469-474;
- means: the normal approximation with unequal variances; their ratio on the logarithmic scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """``hits`` of ``count`` independent trials."""

    hits: int
    count: int

    @property
    def rate(self) -> float:
        """Hits a trial; 0 without trials."""
        return self.hits / self.count if self.count else 0.0


@dataclass(slots=True)
class Sample:
    """Count, sum and sum of squares of whole numbers, so that the mean and its error are exact."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, value: int) -> None:
        """Take one more value in."""
        self.count += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float:
        """The mean; 0 without values."""
        return self.total / self.count if self.count else 0.0

    @property
    def error_squared(self) -> float:
        """The square of the mean's standard error; 0 below two values."""
        n = self.count
        if n < 2:
            return 0.0
        return (n * self.squares - self.total * self.total) / (n * n * (n - 1))


def wilson(share: Share) -> Interval:
    """Wilson's score interval of a share; without trials all of 0 to 1."""
    hits, n = share.hits, share.count
    if not n:
        return Interval(0.0, 1.0)
    middle = (hits + Z * Z / 2) / (n + Z * Z)
    half = Z / (n + Z * Z) * sqrt(hits * (n - hits) / n + Z * Z / 4)
    low = 0.0 if hits == 0 else middle - half
    return Interval(low, 1.0 if hits == n else middle + half)


def difference(a: Share, b: Share) -> Interval:
    """Of the rate of ``a`` minus that of ``b``: Newcombe's square-and-add of Wilson's ends."""
    (low_a, high_a), (low_b, high_b) = wilson(a), wilson(b)
    gap = a.rate - b.rate
    below = sqrt((a.rate - low_a) ** 2 + (high_b - b.rate) ** 2)
    above = sqrt((high_a - a.rate) ** 2 + (b.rate - low_b) ** 2)
    return Interval(gap - below, gap + above)


def ratio(a: Share, b: Share) -> Interval | None:
    """Of the rate of ``a`` over that of ``b``, after Katz; None where one has no hit."""
    if not a.hits or not b.hits:
        return None
    error = sqrt(1 / a.hits - 1 / a.count + 1 / b.hits - 1 / b.count)
    middle = log(a.rate / b.rate)
    return Interval(exp(middle - Z * error), exp(middle + Z * error))


def mean_difference(a: Sample, b: Sample) -> Interval | None:
    """Of the mean of ``a`` minus that of ``b``; None below two values on a side."""
    if a.count < 2 or b.count < 2:
        return None
    half = Z * sqrt(a.error_squared + b.error_squared)
    gap = a.mean - b.mean
    return Interval(gap - half, gap + half)


def mean_ratio(a: Sample, b: Sample) -> Interval | None:
    """Of the mean of ``a`` over that of ``b``; None below two values, or a mean not above 0."""
    if a.count < 2 or b.count < 2 or a.total <= 0 or b.total <= 0:
        return None
    error = sqrt(a.error_squared / a.mean**2 + b.error_squared / b.mean**2)
    middle = log(a.mean / b.mean)
    return Interval(exp(middle - Z * error), exp(middle + Z * error))


#: Below so many offers nothing is said about a rule.
OFFERS_MIN = 100
#: Below so many customers on a side nothing is said about lift.
CUSTOMERS_MIN = 30


class Band(NamedTuple):
    """One status of a rule: its test of the share and Wilson's interval, in words, what to do."""

    status: str
    test: Callable[[Share, Interval], bool]
    holds_when: str
    remedy: str


#: The first that holds is a rule's status. Shares compare as whole numbers, so that 10 of 100 is
#: 10 % and nothing less.
BANDS = (
    Band(
        "INSUFFICIENT",
        lambda share, _: share.count < OFFERS_MIN,
        f"fewer than {OFFERS_MIN} offers",
        "wait: so few say nothing",
    ),
    Band(
        "REVIEW",
        lambda _, interval: interval.high < 0.07,
        "the upper end is under 7 %",
        "revise the moment, the product or the text",
    ),
    Band(
        "CHECK",
        lambda _, interval: interval.low > 0.20,
        "the lower end is over 20 %",
        "check the tracking: so much is rare",
    ),
    Band(
        "NORMAL",
        lambda share, _: 10 * share.hits < share.count,
        "the rate is under 10 %",
        "keep; where it is under 7 %, the interval says that it may yet be 7 %",
    ),
    Band("STRONG", lambda *_: True, "anything else", "keep, and learn from it for other rules"),
)


def status_of(share: Share) -> Band:
    """The band of a rule by the offers that were taken."""
    interval = wilson(share)
    return next(band for band in BANDS if band.test(share, interval))
