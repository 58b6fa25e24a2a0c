"""What the accountants' tests share."""

from collections import Counter
from collections.abc import Sequence

from metaward.privacy.accounting import pld
from metaward.privacy.event import Budget, Event, counted
from metaward.privacy.price import calibrate


def noise_for(epsilon: float, delta: float, count: int) -> float:
    """The noise with which the product lets ``count`` sums through a budget."""
    return calibrate([Counter(sum=count)], Budget(epsilon, delta), 1.0, lambda kind: 1.0)["sum"]


def delta_of(events: Sequence[Event], epsilon: float) -> float:
    """delta by the loss distributions that give epsilon; at 0 the best attack's advantage."""
    accountant = pld.composed(counted(events))
    return 1.0 if accountant is None else float(accountant.get_delta(epsilon))
