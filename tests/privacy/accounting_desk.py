"""What the accountants' tests share."""

from collections import Counter

from metaward.privacy.event import Budget
from metaward.privacy.price import calibrate


def noise_for(epsilon: float, delta: float, count: int) -> float:
    """The noise with which the product lets ``count`` sums through a budget."""
    return calibrate([Counter(sum=count)], 1, Budget(epsilon, delta), 1.0)["sum"]
