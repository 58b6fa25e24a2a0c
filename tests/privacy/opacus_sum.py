"""The clipped and noised sum as Opacus makes it: the reference that ours is compared with.

Opacus (Yousefpour et al. 2021: User-Friendly Differential Privacy Library in PyTorch) is what an
auditor knows. It is a reference and no mechanism: a record that is not finite makes its sum NaN,
its noise is float32 without a grid and comes from a generator with a seed, and a norm is clipped to
clip / (norm + 1e-6).

``GradSampleModule`` and ``DPOptimizer`` are used directly, with a public batch constant.
``PrivacyEngine.make_private`` would take the batch size, cut to a whole number, and the sampling
rate from a data loader that few-shot tasks do not have.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from metaward.client.models.conv import Blocks
from metaward.privacy.noise import check_clip


def opacus_sum(
    module: nn.Module,
    phi: Tensor,
    losses: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    clip: float,
    noise_multiplier: float = 0.0,
    batch_size: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sum (d,) of the records' gradients at ``phi``, each clipped, with noise, over ``batch_size``.

    Args:
        module: a network; Opacus works on a copy, so parameters on the meta device will do.
        phi: its parameters (d,), in the order of ``module.parameters()``.
        losses: (outputs (n, ...), y (n, ...)) -> one loss a record (n,).
        x: records (n, ...).
        y: their labels (n, ...).
        clip: the norm that each record's gradient is clipped to.
        noise_multiplier: standard deviation of the noise over ``clip``, before the division.
        batch_size: the public constant that the sum is divided by; 1 leaves the sum.
        generator: where the noise comes from. One object over all steps: a new one with the same
            seed repeats the same noise.

    Raises:
        ValueError: a network with layers that mix records, with buffers, or in evaluation mode; a
            vector of another length; no generator for the noise.
    """
    check_clip(clip)
    check_module(module)
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size} is below 1")
    if noise_multiplier > 0 and generator is None:
        raise ValueError("noise needs a generator: without one it would come from global state")
    own = _at(module, phi)
    wrapped = GradSampleModule(own, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_batch_size=batch_size,
        generator=generator,
    )
    inputs = x.detach().clone().requires_grad_()  # without it PyTorch warns about Opacus's hooks
    total = losses(wrapped(inputs), y).sum()
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return parameters_to_vector([_grad(p) for p in own.parameters()])


def check_module(module: nn.Module) -> None:
    """``ValueError`` where a record's gradient would not be its own.

    Opacus's validator passes over layers without parameters to train, so it lets a BatchNorm pass
    that is frozen or has no affine part, and which mixes records all the same.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            raise ValueError(
                f"layer {name!r} is a {type(layer).__name__}, which mixes the records of a batch, "
                "with running statistics or without; use GroupNorm"
            )
    if any(True for _ in module.buffers()):
        raise ValueError("the network has buffers, which no clipping protects; use GroupNorm")
    errors = ModuleValidator.validate(module)
    if errors:
        raise ValueError(f"Opacus refuses the network: {'; '.join(map(str, errors))}")


def _at(module: nn.Module, phi: Tensor) -> nn.Module:
    """A copy of the network with the parts of the flat vector as its parameters.

    Its images stay in their order in memory, for Opacus 1.6 reads any other one wrongly.
    """
    own = deepcopy(module).to_empty(device=phi.device).to(phi.dtype)
    for name, layer in own.named_modules():
        if isinstance(layer, Blocks):
            own.set_submodule(name, nn.Sequential(*layer))
    sizes = [p.numel() for p in own.parameters()]
    if phi.shape != (sum(sizes),):
        raise ValueError(f"phi has shape {tuple(phi.shape)}; the network has {sum(sizes)} values")
    vector_to_parameters(phi.detach().clone(), own.parameters())
    return own


def _grad(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad
