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
Linear = Callable[[str, Array], Array]  # (layer's name, its input) -> W u + b, or the convolution

# The name of the axis over which the train step and the evaluation step `vmap`
BATCH = 'batch'


class Network(NamedTuple):
  """A pure function with parameters, whatever library it was written with.

  Attributes:
    apply_layers: the same function with the linear layers computed by someone else, e.g. with
      weights of their own for every example; see `types.Hypernetwork.layers`.
    apply_train: for networks with batch normalization, which only works under a `vmap` whose axis
      is called BATCH: normalizes by the batch's moments. `tracking` is 0, and its gradient with
      respect to the running moments in `params` is their distance from the batch's, so that a step
      of SGD on it is the running average. Nothing else depends on it.
    features: a short description of x from the first hidden layer, for a hypernetwork to read; what
      `apply` computes of it anyway is computed once in a compiled program.
  """

  init: Callable[..., Params]  # (rng, x) -> params, a plain dict
  apply: Callable[..., Any]  # (params, x) -> output
  apply_layers: Callable[..., Any]  # (linear, params, x) -> output
  apply_train: Callable[..., tuple[Any, Array]] | None = None  # (params, x) -> output, tracking
  features: Callable[[Params, Array], Array] | None = None  # (params, x) -> [F]


class Hypernetwork(NamedTuple):
  """h(c, e_l; psi): which modulation of the base parameters does an example ask for?

  Attributes:
    modulation: the definition, a pytree like `base`.
    layers: the fast path: the linear layers of the modulated network, without forming its weights.
    reads: what c is: 'x', the example as a vector; 'features', the base encoder's of it;
      'gradient', those, the heads, and the gradient of the ELBO with respect to them.
    num_steps: how often it reads and modulates, each time with a psi of its own; more than once
      only makes sense where c tells of the result so far.
  """

  init: Callable[..., Params]  # (rng, base, data_dim) -> psi
  modulation: Callable[..., Params]  # (psi, base, c) -> pytree like base; c: [data_dim]
  layers: Callable[..., Linear]  # (psi, base, c) -> linear
  reads: str = 'x'
  num_steps: int = 1


class Decoder(NamedTuple):
  """p(x | z) over binary images x: [H, W, C], one example.

  Attributes:
    logits: [H, W, C]; an autoregressive decoder reads the pixels before each, the others ignore x.
    sample: x in {0., 1.}, [H, W, C].
  """

  init: Callable[[Array], Params]  # (rng) -> params
  logits: Callable[..., Array]  # (params, x, z) -> [H, W, C]
  sample: Callable[..., Array]  # (params, z, rng) -> x
  autoregressive: bool = False


class GenerativeModel(NamedTuple):
  """p(x, z) of one example; densities in nats.

  `standard_normal_prior` says that p(z) = N(0, I), so that a posterior with a closed-form KL to it
  may use that.
  """

  init: Callable[[Array], Params]  # (rng) -> params
  sample_prior: Callable[..., Any]  # (params, rng) -> z: [Z], or a tuple of levels
  log_prior: Callable[..., Array]  # (params, z) -> []
  log_likelihood: Callable[..., Array]  # (params, x, z) -> [], x: [H, W, C] or [D]
  decode: Callable[..., Array] | None  # (params, z) -> mean of p(x | z); None: autoregressive
  sample: Callable[..., Array]  # (params, z, rng) -> x
  standard_normal_prior: bool = False


class Posterior(Protocol):
  """q(z | x) of one example: a PYTREE of its variational parameters.

  A class may add `standard_normal_kl() -> []`, the exact KL(q || N(0, I)), `kl(other) -> []`, the
  exact one to another of its family, and `log_prob(z) -> []`, the log-density of any z, all in
  nats; and `antithetic_pair(rng) -> [2, Z]`, two draws that are each other's mirror image. Some
  flows cannot evaluate a z that they did not draw.
  """

  def sample_and_log_prob(self, rng: Array) -> tuple[Any, Array]:
    """A reparameterized draw z ~ q and log q(z) in nats: ([Z], [])."""
    ...


class PosteriorFamily(NamedTuple):
  """A family of posteriors, between an encoder's heads and q(z | x).

  Attributes:
    heads: what an encoder must output: name -> entries. Every family has the heads of the
      mean-field Gaussian, 'mean' and 'log_var', [Z], and as it starts is that Gaussian where all
      its other heads are zero, so that it can start from a trained mean-field encoder.
    init: weights that all examples share, merged into params['inference']: {} for most families,
      {'flow': ...} for those with networks of their own.
    posterior: params is params['inference'].
  """

  heads: Callable[[int], dict[str, int]]  # (latent_dim) -> {name: size}
  init: Callable[..., Params]  # (rng, heads: {name: array or its shape}) -> params
  posterior: Callable[..., Posterior]  # (params, heads: {name: [size]}) -> q(z | x)


class InferenceMethod(NamedTuple):
  """An inference method: three pure functions, and what some of them need in training.

  `params` is always {'model': ..., 'inference': ...}, so that optimizers, checkpoints and freeze
  masks treat all methods alike. `loss` is in nats and minimized; its metrics are for humans. Both
  steps call them under a `vmap` whose axis is called BATCH, which few need.

  Attributes:
    infer_train: for encoders with batch normalization, see `Network.apply_train`; where there is
      one, training takes the loss of the posterior of its heads, not `loss`, which uses the running
      moments.
    posterior: of the heads that `infer_train` returns.
    modulation: of methods with a hypernetwork, what it adds to the weights for x (the definition,
      of the last step), a pytree like the base encoder's parameters.
    trains: which halves of params a train step changes, out of so many; None: always both.
  """

  init: Callable[[Array, Array], Params]  # (rng, x) -> params
  infer: Callable[[Params, Array, Array], Posterior]  # (params, x, rng) -> q(z | x)
  loss: Callable[..., tuple[Array, Metrics]]  # (params, x, rng, beta) -> ([], metrics)
  infer_train: Callable[..., tuple[Any, Array]] | None = None  # as infer -> heads, tracking
  posterior: Callable[..., Posterior] | None = None  # (params, heads) -> q, after infer_train
  modulation: Callable[[Params, Array, Array], Params] | None = None  # (params, x, rng) -> h(x)
  trains: Callable[[Array], dict[str, Array]] | None = (
    None  # (step, num_steps) -> {'model': bool, ...}
  )
