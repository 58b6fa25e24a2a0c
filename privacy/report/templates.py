"""The templates beside this file, and the filters by which they print numbers and times.

They end in ``.md`` because Flower's app bundles carry no .html, .css or .txt, and a report must
also be made inside a bundle.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from statistics import median

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from metaward.privacy.report import numbers
from metaward.privacy.rounding import percent_up, rounded_up

FOLDER = Path(__file__).parent


@cache
def environment(*more: Path, escape: bool) -> Environment:
    """Where templates come from: this folder and ``more``; ``escape``: every value is escaped, as a
    page of HTML needs."""
    environment = Environment(
        loader=FileSystemLoader([FOLDER, *more]),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {name: f for name, f in vars(numbers).items() if name.startswith("show_")}
    environment.filters |= shown | {f.__name__: f for f in (median, percent_up, rounded_up)}
    environment.filters["tight"] = lambda text: text.replace(" %", "\u00a0%")
    environment.tests["infinite"] = math.isinf
    return environment
