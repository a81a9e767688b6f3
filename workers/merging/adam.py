"""Adam for functions whose gradient is written down: merge methods that minimize something."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from search.method import Parameter


def lr(*, steps: str, default: float, high: float) -> Parameter:
    """The step size.

    Args:
        steps: name of the parameter that counts steps.
        default: that of the paper.
        high: end of the recommended range.
    """
    return Parameter(
        "lr",
        f"size of a step of Adam: no entry moves by more than about {steps} times this",
        default=default,
        low=1e-6,
        high=high,
        minimum=0.0,
        log=True,
    )


RELATIVE_LR = Parameter(
    "relative_lr",
    "measure each matrix, and so lr, in units of the root mean square of its task vectors: for "
    "language models, whose entries change by less than the steps that the papers take",
    "flag",
    default=False,
)

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


def unit(deltas: Tensor, *, relative: bool) -> float:
    """What task vectors are measured in: the root mean square of their entries if ``relative``.

    Dividing by it, and not only scaling steps, keeps the constant of Adam small beside gradients.
    """
    size = float(deltas.square().mean().sqrt()) if relative and deltas.numel() else 1.0
    return size if size > 0 else 1.0


def adam(start: Tensor, gradient: Callable[[Tensor], Tensor], *, steps: int, lr: float) -> Tensor:
    """Where Adam stands after some steps.

    Kingma & Ba 2015 (arXiv:1412.6980), Algorithm 1, with its default constants. Its steps have the
    size of ``lr`` whatever the scale of the gradient, so that no entry moves by more than about
    ``steps * lr``.

    Args:
        start: (*shape), left as it is.
        gradient: of the function at a point.
        steps: how many.
        lr: the step size, in units of an entry.
    """
    point = start.clone()
    m, v = torch.zeros_like(point), torch.zeros_like(point)
    for t in range(1, steps + 1):
        g = gradient(point)
        m.lerp_(g, 1 - _BETA_1)
        v.mul_(_BETA_2).addcmul_(g, g, value=1 - _BETA_2)
        scale = v.sqrt().div_(math.sqrt(1 - _BETA_2**t)).add_(_EPSILON)
        point.addcdiv_(m, scale, value=-lr / (1 - _BETA_1**t))
    return point
