"""An adapter without a front end, for records that are vectors already."""

from dataclasses import dataclass

from torch import nn

from metaward.client.models.adapter import Adapter


@dataclass(frozen=True)
class Flat(Adapter):
    """Frame and low-rank adapter on the records themselves."""

    rank: int = 2

    def front(self, input_shape: tuple[int, ...]) -> nn.Module | None:
        """None: records are the body's input."""
        return None
