"""Iterative amortized inference: a network that reads the gradient of the ELBO, T times.

l_0 = 0 (the prior, for Gaussians), and with g_t = grad ELBO(l_t, theta, x)

  h_t = f(x, l_t, g_t; phi),  l_{t+1} = s(h_t) l_t + (1 - s(h_t)) m(h_t)

(Marino et al., arXiv:1807.09356, eq. 8 and the gated updates of their code). g enters as its log
magnitude and sign; f has highway layers of ELU units. phi follows the mean of the T ELBOs, where no
gradient flows from one step into the one before; theta follows the last ELBO only.

Differs from the paper: one draw of z a step, not ten, as for the methods beside it; the gradient
that is read is that of one example, not of a batch's mean; the ELBO at l_t whose gradient is read
is also the one that is trained on, so T steps cost T + 1 of them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae import layers
from iavae.posteriors import gaussian
from iavae.refine import Heads, bound_gradient, describe, heads_bound, loss_of_last, zero_heads
from iavae.types import (
  Array,
  GenerativeModel,
  InferenceMethod,
  Metrics,
  Network,
  Params,
  Posterior,
  PosteriorFamily,
)

DEFAULTS: dict[str, object] = {
  'num_steps': 5,  # T
  'hidden': 512,  # units of each of the two highway layers
}
STEPS = 'learned'
LARGEST_LOG_VAR = 15.0
_fixed = jax.lax.stop_gradient


def _init_network(rng: Array, num_inputs: int, hidden: int, heads: Heads) -> Params:
  shapes = {
    f'{part}{i}': (size, hidden)
    for i, size in enumerate((num_inputs, hidden))
    for part in ('gate', 'unit')
  }
  shapes['skip0'] = (num_inputs, hidden)
  for name, head in heads.items():
    shapes |= {f'{name}_gate': (hidden, head.size), f'{name}_value': (hidden, head.size)}
  return layers.torch_uniform(rng, shapes)


def _update(phi: Params, x: Array, heads: Heads, told: Array) -> Heads:
  """l_{t+1} from a fixed l_t and what is told of it."""
  h = jnp.concatenate([x.ravel() - 0.5, told])
  for i in range(2):
    gate = jax.nn.sigmoid(layers.linear(phi[f'gate{i}'], h))
    kept = layers.linear(phi['skip0'], h) if i == 0 else h
    h = gate * kept + (1 - gate) * jax.nn.elu(layers.linear(phi[f'unit{i}'], h))
  new = {}
  for name, head in heads.items():
    gate = jax.nn.sigmoid(layers.linear(phi[f'{name}_gate'], h))
    new[name] = gate * head + (1 - gate) * layers.linear(phi[f'{name}_value'], h)
  return new | {'log_var': jnp.clip(new['log_var'], -LARGEST_LOG_VAR, LARGEST_LOG_VAR)}


class _Parts(NamedTuple):
  """What iterative inference is made of; see `make`."""

  model: GenerativeModel
  encoder: Network
  family: PosteriorFamily
  num_steps: int


def _run(
  parts: _Parts, params: Params, x: Array, rng: Array, beta: Array | float
) -> tuple[Heads, Array]:
  """l_T, and sum_{t < T} of a term with the gradient of the ELBO at l_t for phi."""
  fixed = _fixed(params)
  bound = heads_bound(parts.family, fixed['inference'], beta)

  def step(carry: tuple[Heads, Array], i: Array) -> tuple[tuple[Heads, Array], None]:
    heads, total = carry
    rng_step = jax.random.fold_in(rng, i)
    gradient = bound_gradient(bound, parts.model, fixed['model'], heads, x, rng_step)
    total += sum(jnp.vdot(gradient[name], heads[name]) for name in heads)
    told = describe(heads, gradient)
    return (_update(params['inference']['refiner'], x, _fixed(heads), told), total), None

  heads = zero_heads(parts.encoder, x)
  start = (heads, jnp.zeros((), jnp.result_type(*heads.values())))
  return jax.lax.scan(step, start, jnp.arange(parts.num_steps))[0]


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  num_steps: int = 5,
  hidden: int = 512,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
) -> InferenceMethod:
  """Iterative inference; params['inference'] = {'refiner': phi} and what the family shares.

  Args:
    encoder: only tells the sizes of the variational parameters; it has no part in the result.

  Raises:
    ValueError: for bad hyperparameters.
  """
  if num_steps < 0 or hidden < 1:
    raise ValueError('num_steps is 0 or more, hidden 1 or more')
  parts = _Parts(model, encoder, family, num_steps)

  def init(rng: Array, x: Array) -> Params:
    rng_model, rng_refiner, rng_family = jax.random.split(rng, 3)
    heads = zero_heads(encoder, x)
    num_inputs = x.size + 3 * sum(head.size for head in heads.values())
    refiner = _init_network(rng_refiner, num_inputs, hidden, heads)
    inference = {'refiner': refiner} | family.init(rng_family, heads)
    return {'model': model.init(rng_model), 'inference': inference}

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return family.posterior(params['inference'], _run(parts, params, x, rng, 1.0)[0])

  def loss(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_steps, rng_loss = jax.random.split(rng)
    heads, total = _run(parts, params, x, rng_steps, beta)
    return loss_of_last(model, family, params, (heads, total, num_steps), x, rng_loss, beta)

  return InferenceMethod(init=init, infer=infer, loss=loss)
