"""The contracts: what is a model, a posterior, an inference method?

Everything here is written for ONE example; batches come from `jax.vmap` in the train step and
in the evaluation step, models trained side by side from one more `vmap` around the former.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Params = Any  # a pytree of arrays
Metrics = dict[str, Array]


class Network(NamedTuple):
  """A pure function with parameters, whatever library it was written with.

  `apply_affine` is the same function with parameters that are affine in a vector c, phi = A [c; 1],
  at the cost of shared ones; see `hypernetwork.affine_layers`. Not every network has it.
  """

  init: Callable[..., Params]  # (rng, x) -> params, a plain dict
  apply: Callable[..., Any]  # (params, x) -> output
  apply_affine: Callable[..., Any] | None = None  # (A, x, c) -> output


class GenerativeModel(NamedTuple):
  """p(x, z) of one example; densities in nats.

  `standard_normal_prior` says that p(z) = N(0, I), so that a posterior with a closed-form KL to it
  may use that.
  """

  init: Callable[[Array], Params]  # (rng) -> params
  sample_prior: Callable[..., Any]  # (params, rng) -> z: [Z], or a tuple of levels
  log_prior: Callable[..., Array]  # (params, z) -> []
  log_likelihood: Callable[..., Array]  # (params, x, z) -> [], x: [H, W, C] or [D]
  decode: Callable[..., Array]  # (params, z) -> mean of p(x | z), the shape of x
  sample: Callable[..., Array]  # (params, z, rng) -> x
  standard_normal_prior: bool = False


class Posterior(Protocol):
  """q(z | x) of one example: a PYTREE of its variational parameters.

  A family may add `standard_normal_kl() -> []`, the exact KL(q || N(0, I)) in nats. There is no
  bare `log_prob(z)`: some flows cannot evaluate a z that they did not draw.
  """

  def sample_and_log_prob(self, rng: Array) -> tuple[Any, Array]:
    """A reparameterized draw z ~ q and log q(z) in nats: ([Z], [])."""
    ...


class InferenceMethod(NamedTuple):
  """An inference method: three pure functions.

  `params` is always {'model': ..., 'inference': ...}, so that optimizers, checkpoints and freeze
  masks treat all methods alike. `loss` is in nats and minimized; its metrics are for humans.
  """

  init: Callable[[Array, Array], Params]  # (rng, x) -> params
  infer: Callable[[Params, Array, Array], Posterior]  # (params, x, rng) -> q(z | x)
  loss: Callable[..., tuple[Array, Metrics]]  # (params, x, rng, beta) -> ([], metrics)
