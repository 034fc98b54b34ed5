"""The weight gradients of linear layers, computed by a second thread while the backward pass goes on: the same bytes, sooner.

A model this small gains nothing from two threads within a product, but a layer's weight gradient is needed by nobody before the
optimizer's step. For training on a CPU (`make tiny-base`); on a GPU nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@contextmanager
def weight_gradients_aside(*modules: nn.Module) -> Iterator[Callable[[], None]]:
    """While open, `nn.Linear` layers in `modules` leave their weights' gradients to a second thread. Yields a function that waits
    for those of the backward passes so far; to be called before anything reads them. Such a weight must not be used by anything else."""
    if any(p.device.type != "cpu" for module in modules for p in module.parameters()):
        yield lambda: None
        return
    linears = [layer for module in modules for layer in module.modules() if type(layer) is nn.Linear]
    jobs: list[Future[None]] = []

    def wait() -> None:
        for job in jobs:
            job.result()
        jobs.clear()

    def submit(*job: Any) -> None:
        jobs.append(pool.submit(*job))

    with ThreadPoolExecutor(1, "weight gradients", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for layer in linears:
            layer.forward = partial(_linear, layer, submit)
        try:
            yield wait
        finally:
            for layer in linears:
                del layer.forward


def _linear(layer: nn.Linear, submit: Callable[..., None], x: torch.Tensor) -> torch.Tensor:
    return _Linear.apply(x, layer.weight, layer.bias, submit)


class _Linear(torch.autograd.Function):
    """F.linear as autograd has it under autocast, but for who computes the weight's gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, submit: Callable[..., None]) -> torch.Tensor:
        y = F.linear(x, weight, bias)
        ctx.parameters, ctx.dtype, ctx.submit = (weight, bias), x.dtype, submit
        ctx.save_for_backward(x.to(y.dtype), weight.to(y.dtype))
        return y

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        if ctx.needs_input_grad[1]:
            ctx.submit(_add_gradients, *ctx.parameters, rows, x.reshape(-1, x.shape[-1]))
        of_x = (rows @ weight).reshape(x.shape).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return of_x, None, None, None


@torch.no_grad()
def _add_gradients(weight: nn.Parameter, bias: nn.Parameter | None, gradient: torch.Tensor, x: torch.Tensor) -> None:
    """One after the other, in the order of the backward pass, as autograd adds them."""
    new = [(weight, gradient.t() @ x)] + ([] if bias is None else [(bias, gradient.sum(0))])
    for parameter, value in new:
        parameter.grad = value.to(parameter.dtype) if parameter.grad is None else parameter.grad + value.to(parameter.dtype)
