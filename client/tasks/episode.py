"""A few-shot task: the records that a learner adapts to, and those that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Episode:
    """One few-shot task: a support set for adaptation and a query set for evaluation.

    Shapes: ``support_x`` (n_support, *input_shape) float32; ``support_y`` as the kind of task
    defines it, (n_support,) int64 in [0, N) for classes and (n_support, outputs) float32 for
    regression; the query likewise. ``classes`` (N,) holds the class index behind each label (below
    ``TaskSpec.vocabulary`` when meta-training hospitals know the class) and is empty where there
    are no classes. ``support_rows`` and ``query_rows`` say which records were touched (indices into
    ``Hospital.ids``).
    """

    support_x: FloatArray
    support_y: NDArray[Any]
    query_x: FloatArray
    query_y: NDArray[Any]
    classes: IntArray
    support_rows: IntArray
    query_rows: IntArray

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(int(array.nbytes) for array in vars(self).values())
