"""Evaluation: how good is a method on every example of a set?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from iavae.bounds import elbo_terms, log_weight
from iavae.parallel import replicate, shard_batch
from iavae.types import BATCH, Array, GenerativeModel, InferenceMethod, Metrics, Params


def example_metrics(
  model: GenerativeModel,
  method: InferenceMethod,
  params: Params,
  x: Array,
  rng: Array,
  *,
  num_samples: int,
  iwae_samples: int = 0,
  samples_at_once: int = 50,
) -> Metrics:
  """What is known of one example; each [] in nats.

  Args:
    x: [H, W, C] or [D].
    num_samples: draws of z in `elbo`, `kl` (exact where a closed form is known) and
      `log_likelihood`, E_q log p(x | z).
    iwae_samples: S of the bound `iwae` (see `bounds.iwae_bound`); 0 leaves it out.
    samples_at_once: draws of z in memory at once.
  """
  rng_infer, rng_elbo, rng_iwae = jax.random.split(rng, 3)
  q = method.infer(params, x, rng_infer)

  def draw(rng: Array) -> tuple[Array, Array]:
    return elbo_terms(model, params['model'], q, x, rng)

  def weight(rng: Array) -> Array:
    return log_weight(model, params['model'], q, x, rng)

  rngs = jax.random.split(rng_elbo, num_samples)
  log_likelihood, kl = map(jnp.mean, jax.lax.map(draw, rngs, batch_size=samples_at_once))
  metrics = {'elbo': log_likelihood - kl, 'kl': kl, 'log_likelihood': log_likelihood}
  if not iwae_samples:
    return metrics
  rngs = jax.random.split(rng_iwae, iwae_samples)
  log_weights = jax.lax.map(weight, rngs, batch_size=samples_at_once)
  return metrics | {'iwae': logsumexp(log_weights) - jnp.log(iwae_samples)}


def make_evaluate(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  num_samples: int,
  iwae_samples: int = 0,
  at_once: int = 100,
  samples_at_once: int = 50,
) -> Callable[[Params, Array, Array], dict[str, np.ndarray]]:
  """evaluate(params, x, rng) -> {metric: [N]}, nats; see `over_examples`."""

  def one(params: Params, x: Array, rng: Array) -> Metrics:
    return example_metrics(
      model,
      method,
      params,
      x,
      rng,
      num_samples=num_samples,
      iwae_samples=iwae_samples,
      samples_at_once=samples_at_once,
    )

  return over_examples(one, at_once)


def over_examples(
  one: Callable[[Params, Any, Array], Any], at_once: int
) -> Callable[[Params, Any, Array], Any]:
  """A function of (params, x, rng) of one example for all of x, a pytree of [N, ...] of any type.

  An example's draws depend on `rng` and its place in x only: not on how many are worked on at once
  or on how many devices. What `one` returns comes back as NumPy arrays with an axis N in front.

  Args:
    at_once: an odd number is raised by one, so that no chunk parts examples 2 n and 2 n + 1, of
      which one may read the other (`instance_adaptive.make`).
  """
  at_once += at_once % 2

  def indexed(params: Params, x: Any, i: Array, rng: Array) -> Any:
    x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x)
    return one(params, x, jax.random.fold_in(rng, i))

  @jax.jit
  def chunk(params: Params, x: Any, index: Array, rng: Array) -> Any:
    batched = jax.vmap(indexed, in_axes=(None, 0, 0, None), axis_name=BATCH)
    return batched(params, jax.tree.map(shard_batch, x), index, rng)

  def every(params: Params, x: Any, rng: Array) -> Any:
    # Chunk by chunk, so that sets of all sizes share one program; the last is filled from the start
    params, x = replicate(params), jax.tree.map(np.asarray, x)
    count = len(jax.tree.leaves(x)[0])
    num_chunks = -(-count // at_once)
    index = (np.arange(num_chunks * at_once) % count).reshape(num_chunks, at_once)
    parts = [chunk(params, jax.tree.map(lambda a, i=i: a[i], x), i, rng) for i in index]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *jax.device_get(parts))

  return every
