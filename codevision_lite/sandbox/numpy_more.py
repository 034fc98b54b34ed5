"""numpy's submodules that image code uses: linalg and fft (bounded in size) and random (a generator of the run's own)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codevision_lite.sandbox.array_trace import lose
from codevision_lite.sandbox.checks import argument, largest_prime, numbers_in
from codevision_lite.sandbox.facade import ATTRIBUTES, Box, Fn, Meth, Rule, session
from codevision_lite.sandbox.numpy_make import cells, elementwise_check
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import TooLarge

LINALG = "norm inv pinv det solve lstsq eig eigh eigvals eigvalsh svd qr matrix_rank matrix_power cholesky cond slogdet".split()
FFT = "fft ifft fft2 ifft2 rfft irfft rfft2 irfft2 fftn ifftn fftshift ifftshift fftfreq rfftfreq".split()
RANDOM = (
    "rand randn randint random random_sample sample ranf uniform normal standard_normal choice poisson binomial beta gamma exponential "
    "permutation shuffle random_integers laplace triangular multivariate_normal bytes"
).split()
GENERATOR = "random integers uniform normal standard_normal choice poisson binomial beta gamma exponential permutation shuffle".split()


def linalg_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for a in args:
        shape = np.shape(a)
        if len(shape) >= 2:
            spend_work(80.0 * math.prod(map(float, shape)) * min(shape[-2:]), "this matrix computation")
        session.budget.spend_bytes(16.0 * math.prod(map(float, shape)))
    if len(args) > 1 and np.ndim(args[1]) == 0 and numbers_in(args[1]) > 10_000:
        raise TooLarge("the exponent is too large")


def norm_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if np.ndim(args[0]) == 2 and (len(args) > 1 or "ord" in kwargs):
        linalg_check(args[:1], {})


def fft_check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    cells = math.prod(map(float, np.shape(args[0]))) if np.ndim(args[0]) else float(args[0])
    for extra in (*args[1:2], kwargs.get("n"), kwargs.get("s")):  # the size of the transform replaces that of some axes
        if numbers_in(extra) > 16_384:
            raise TooLarge("the transform is too long")
        for n in [] if extra is None else np.ravel(extra):
            cells *= max(1.0, float(n) / max(1, min(np.shape(args[0]), default=1)))
    session.budget.spend_bytes(32.0 * cells, "this transform")
    slow = any(largest_prime(int(n)) > 1000 for n in np.shape(args[0]) if n > 1000)
    spend_work((2500.0 if slow else 400.0) * cells, "this transform")


def generator() -> np.random.RandomState:
    """The run's own legacy generator: the process's np.random is not touched."""
    if session.np_random is None:
        session.np_random = np.random.RandomState(session.seed)
    return session.np_random


SIZE_AT = {  # where `size` stands among the positional arguments
    "random": 0, "random_sample": 0, "ranf": 0, "sample": 0, "standard_normal": 0, "poisson": 1, "exponential": 1, "choice": 1,
    "randint": 2, "integers": 2, "random_integers": 2, "normal": 2, "uniform": 2, "binomial": 2, "beta": 2, "gamma": 2, "laplace": 2,
    "multivariate_normal": 2, "triangular": 3,
}  # fmt: skip


def draw(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], source: Any) -> Any:
    """Call a sampling method after its size is known."""
    size = args if name in ("rand", "randn") else argument(args, kwargs, SIZE_AT.get(name, 99), "size")
    drawn = cells(size if size is not None else 1)
    if name in ("permutation", "choice") and args and not np.ndim(args[0]):
        drawn = max(drawn, numbers_in(args[0]))
    if name == "multivariate_normal":
        n = float(np.size(argument(args, kwargs, 0, "mean", 0)))
        drawn *= n
        spend_work(80.0 * n**3, "this distribution")
    elementwise_check(args, {k: v for k, v in kwargs.items() if isinstance(v, np.ndarray | list)})  # parameters are broadcast
    session.budget.spend_bytes(8.0 * drawn, "this array")
    session.budget.ticks_left -= int(drawn / 1e4)
    return getattr(source, name)(*args, **kwargs)


class Generator(Box):
    """np.random.default_rng() and np.random.RandomState()."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


def default_rng(seed: Any = None) -> Generator:
    return Generator(np.random.default_rng(seed if isinstance(seed, int) else session.seed))


def random_state(seed: Any = None) -> Generator:
    return Generator(np.random.RandomState(seed if isinstance(seed, int) else session.seed))


def reseed(seed: Any = None) -> None:
    session.np_random = np.random.RandomState(seed if isinstance(seed, int) else session.seed)


def sampler(name: str) -> Fn:
    in_place = Rule(trace=lambda args, kwargs, result: _spoil(args[0])) if name == "shuffle" else Rule(trace=lose)
    return Fn(f"np.random.{name}", lambda *args, **kwargs: draw(name, args, kwargs, generator()), in_place)


def _spoil(value: Any) -> None:
    from codevision_lite.sandbox.array_trace import spoil

    if isinstance(value, np.ndarray):
        spoil(value)


def bound(name: str) -> Meth:
    def run(self: Generator, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self.inner, name):
            raise AttributeError(f"the generator has no method {name}")
        if name == "shuffle":
            _spoil(args[0])
        return draw(name, args, kwargs, self.inner)

    return Meth(run, Rule(trace=lambda args, kwargs, result: lose(args[1:], kwargs, result)))


def submodules() -> dict[str, dict[str, Any]]:
    ATTRIBUTES[Generator] = {n: bound(n) for n in {*RANDOM, *GENERATOR} - {"bytes"}}
    linalg: dict[str, Any] = {n: Fn(f"np.linalg.{n}", getattr(np.linalg, n), Rule(check=linalg_check, trace=lose)) for n in LINALG}
    linalg["norm"] = Fn("np.linalg.norm", np.linalg.norm, Rule(check=norm_check, trace=lose))
    linalg["LinAlgError"] = np.linalg.LinAlgError
    fft = {n: Fn(f"np.fft.{n}", getattr(np.fft, n), Rule(check=fft_check, trace=lose)) for n in FFT}
    random = {n: sampler(n) for n in RANDOM if n != "bytes" and hasattr(np.random, n)}
    random |= {"seed": Fn("np.random.seed", reseed, Rule()), "default_rng": Fn("np.random.default_rng", default_rng, Rule()),
               "RandomState": Fn("np.random.RandomState", random_state, Rule())}  # fmt: skip
    return {"linalg": linalg, "fft": fft, "random": random}
