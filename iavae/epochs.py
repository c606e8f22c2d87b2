"""One model on images: how does an epoch become one compiled program?

All of the training set lives on the device as bytes; an epoch is a scan over shuffled batches, each
drawn anew from the intensities, spread over the devices at hand.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from iavae.freezing import merge
from iavae.parallel import shard_batch
from iavae.types import BATCH, Array, InferenceMethod, Metrics, Params


def binarize(images: Array, rng: Array) -> Array:
  """x ~ Bernoulli(images / 255), float32; images: bytes of any shape."""
  return (jax.random.uniform(rng, images.shape) * 255 < images).astype(jnp.float32)


def warm_up(step: Array, num_steps: int) -> Array:
  """The KL weight beta: .1 at first, 1 / num_steps more each step, until 1 (arXiv:1802.02550)."""
  return jnp.minimum(0.1 + step / num_steps, 1.0) if num_steps else jnp.ones(())


def lower_precision(params: Params, dtype: str) -> Params:
  """Kernels in `dtype`, all else as it is: layers multiply in the precision of their kernel."""

  def lower(path: jax.tree_util.KeyPath, leaf: Array) -> Array:
    return leaf.astype(dtype) if path[-1].key == 'kernel' else leaf

  return jax.tree_util.tree_map_with_path(lower, params)


def make_step(
  method: InferenceMethod, optimizer: optax.GradientTransformation, precision: str = 'float32'
) -> Callable[..., tuple[Params, optax.OptState, Metrics]]:
  """step(params, opt_state, frozen, x, rng, beta) -> (params, opt_state, metrics); x: [B, ...].

  Args:
    precision: of the kernels in the loss; params and their gradients are float32.
  """

  def batch_loss(
    params: Params, frozen: Params, x: Array, rng: Array, beta: Array
  ) -> tuple[Array, Metrics]:
    loss = jax.vmap(method.loss, in_axes=(None, 0, 0, None), axis_name=BATCH)
    full = lower_precision(merge(params, frozen), precision)
    losses, metrics = loss(full, x, jax.random.split(rng, len(x)), beta)
    return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

  def step(
    params: Params, opt_state: optax.OptState, frozen: Params, x: Array, rng: Array, beta: Array
  ) -> tuple[Params, optax.OptState, Metrics]:
    gradient, metrics = jax.grad(batch_loss, has_aux=True)(params, frozen, x, rng, beta)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, metrics

  return step


def make_epoch(
  method: InferenceMethod,
  optimizer: optax.GradientTransformation,
  *,
  batch_size: int,
  resample: bool,
  warmup_epochs: int,
  precision: str = 'float32',
) -> Callable[..., tuple[Params, optax.OptState, Metrics]]:
  """epoch(params, opt_state, frozen, images, rng, number) -> (params, opt_state, mean metrics).

  `images`: bytes [N, H, W, C]; `number`: [], epochs before this one. The N mod batch_size images
  left over are others in every epoch.

  Args:
    resample: draw x ~ Bernoulli(images / 255) for every batch; else the images are 0 or 255.
    warmup_epochs: epochs in which beta grows by 1; see `warm_up`.
    precision: see `make_step`.
  """
  train_step = make_step(method, optimizer, precision)

  @jax.jit
  def epoch(
    params: Params, opt_state: optax.OptState, frozen: Params, images: Array, rng: Array,
    number: Array,
  ) -> tuple[Params, optax.OptState, Metrics]:  # fmt: skip
    num_steps = len(images) // batch_size
    rng_order, rng_steps = jax.random.split(rng)
    order = jax.random.permutation(rng_order, len(images))[: num_steps * batch_size]

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, Metrics]:
      i, index, rng = inputs
      rng_binarize, rng_loss = jax.random.split(rng)
      batch = shard_batch(images[index])
      x = binarize(batch, rng_binarize) if resample else (batch > 127).astype(jnp.float32)
      beta = warm_up(number * num_steps + i, warmup_epochs * num_steps)
      params, opt_state, metrics = train_step(*carry, frozen, x, rng_loss, beta)
      return (params, opt_state), metrics

    rngs = jax.random.split(rng_steps, num_steps)
    inputs = (jnp.arange(num_steps), order.reshape(num_steps, batch_size), rngs)
    (params, opt_state), metrics = jax.lax.scan(step, (params, opt_state), inputs)
    return params, opt_state, jax.tree.map(jnp.mean, metrics)

  return epoch
