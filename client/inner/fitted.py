"""What adaptation gives where a learner adapts a network: the network at one point."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from metaward.client.inner.setting import Setting
from metaward.client.models import Architecture, Network, Portable


@dataclass(frozen=True, eq=False)
class Fitted:
    """A predictor that is a body, perhaps a linear map of its features, and a linear head.

    ``body`` has no head of its own and stands at ``theta`` (dim,); ``mix`` (features, features)
    maps its features, where there is one; ``weights`` (N, features) and ``biases`` (N,) are the
    head. All learners whose predictors are of this kind can be written as a module
    (``portable``), whatever they did to find these tensors. Where there are predictors of several
    tasks, all of it has an axis for them before the others.
    """

    body: Network
    theta: Tensor
    weights: Tensor
    biases: Tensor
    mix: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs (n, N) for records (n, ...) that went through the fixed front."""
        features = self.body.forward(self.theta, x)
        if self.mix is not None:
            features = features @ self.mix.mT
        if self.weights.ndim == 3:
            return features @ self.weights.mT + self.biases.unsqueeze(-2)
        return functional.linear(features, self.weights, self.biases)

    def portable(self, architecture: Architecture, input_shape: tuple[int, ...]) -> Portable:
        """A module with these tensors, from records (n, *input_shape) to outputs (n, N).

        The architecture's fixed front is its first part.
        """
        outputs, mixed = len(self.biases), self.mix is not None
        module = Portable(architecture, input_shape, outputs, mixed)
        own = {**self.body.split(self.theta), "head.weight": self.weights, "head.bias": self.biases}
        if self.mix is not None:
            own["mix.weight"] = self.mix
        module.load_state_dict(module.state_dict() | own)
        return module


def at_point(setting: Setting, phi: Tensor) -> Fitted:
    """The network of the task's outputs at ``phi``, (dim,) or (tasks, dim), body and head."""
    net = setting.network(setting.spec.outputs)
    head, cut = phi[..., net.head], net.outputs * net.features
    weights = head[..., :cut].view(*phi.shape[:-1], net.outputs, net.features)
    return Fitted(setting.network(0), phi[..., : net.head.start], weights, head[..., cut:])
