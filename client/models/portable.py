"""A network as one module whose tensors are all its own, from a hospital's records to outputs.

Elsewhere a network is a function of a flat vector. A module that is written to a file, exported or
given to another program needs its parameters in the usual place, and its fixed front with it.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from metaward.client.models.base import Architecture, build, fed_shape


class Portable(nn.Module):
    """Fixed front, body, perhaps a linear map of the features, and a linear head.

    ``state_dict`` holds every tensor that a prediction needs: frozen parameters under the names
    that theta's layers have, and constants of the network as buffers.
    """

    def __init__(
        self,
        architecture: Architecture,
        input_shape: tuple[int, ...],
        outputs: int,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        fed = fed_shape(architecture, input_shape)
        features = architecture.features(fed)
        front = architecture.front(input_shape)
        self.front = nn.Identity() if front is None else deepcopy(front)
        self.body = build(architecture, fed)
        self.mix = nn.Linear(features, features, bias=False) if mixed else nn.Identity()
        self.head = nn.Linear(features, outputs)
        for layer in self.modules():
            _hold_constants(layer)
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, N) for records (n, *input_shape), prepared as those of the run."""
        out: Tensor = self.head(self.mix(self.body(self.front(x))))
        return out


def _hold_constants(layer: nn.Module) -> None:
    """Make buffers of the tensors that a layer holds as plain attributes, as float32."""
    for name, value in list(vars(layer).items()):
        if isinstance(value, Tensor):
            delattr(layer, name)
            layer.register_buffer(name, value.float() if value.is_floating_point() else value)
