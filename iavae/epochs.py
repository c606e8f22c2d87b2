"""One model on images: how does an epoch become one compiled program?

All of the training set lives on the device as bytes; an epoch is a scan over shuffled batches, each
drawn anew from the intensities, spread over the devices at hand.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from iavae.optimizers import masked_step
from iavae.parallel import shard_batch
from iavae.types import Array, Metrics, Params


def binarize(images: Array, rng: Array) -> Array:
  """x ~ Bernoulli(images / 255), float32; images: bytes [B, H, W, C]."""
  return (jax.random.uniform(rng, images.shape) * 255 < images).astype(jnp.float32)


WARMUP_START = 0.1  # of beta, as in arXiv:1802.02550


def warm_up(step: Array, num_steps: int, start: float = WARMUP_START) -> Array:
  """The weight beta: `start` at first, 1 / num_steps more each step, until 1."""
  return jnp.minimum(start + step / num_steps, 1.0) if num_steps else jnp.ones(())


def make_epoch(
  gradient: Callable[..., tuple[Params, Metrics]],
  optimizer: optax.GradientTransformation,
  *,
  batch_size: int,
  resample: bool,
  warmup_epochs: int,
  warmup_start: float = WARMUP_START,
  num_epochs: int = 1,
  trains: Callable[..., dict[str, Array]] | None = None,
) -> Callable[..., tuple[Params, optax.OptState, Metrics]]:
  """epoch(params, opt_state, frozen, images, rng, number) -> (params, opt_state, mean metrics).

  `images`: bytes [N, H, W, C]; `number`: [], epochs before this one. The N mod batch_size images
  left over are others in every epoch.

  Args:
    gradient: see `gradients.make_gradient`.
    resample: draw x ~ Bernoulli(images / 255) for every batch; else the images are 0 or 255.
    warmup_epochs: epochs in which beta grows by 1; see `warm_up`.
    warmup_start: beta at first.
    num_epochs: of the stage, of which `trains` is told.
    trains: see `types.InferenceMethod`.
  """

  def step(
    num_steps: int, frozen: Params, carry: tuple, number: Array, images: Array, rng: Array
  ) -> tuple[tuple, Metrics]:
    """One train step on a batch of bytes, number `number` of the stage."""
    rng_binarize, rng_loss = jax.random.split(rng)
    batch = shard_batch(images)
    x = binarize(batch, rng_binarize) if resample else (batch > 127).astype(jnp.float32)
    beta = warm_up(number, warmup_epochs * num_steps, warmup_start)
    params, opt_state = carry
    slope, metrics = gradient(params, frozen, x, jax.random.split(rng_loss, batch_size), beta)
    if trains is not None:
      halves = trains(number, num_epochs * num_steps)
      return masked_step(optimizer, halves, slope, opt_state, params), metrics
    updates, opt_state = optimizer.update(slope, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), metrics

  @jax.jit
  def epoch(
    params: Params, opt_state: optax.OptState, frozen: Params, images: Array, rng: Array,
    number: Array,
  ) -> tuple[Params, optax.OptState, Metrics]:  # fmt: skip
    num_steps = len(images) // batch_size
    rng_order, rng_steps = jax.random.split(rng)
    order = jax.random.permutation(rng_order, len(images))[: num_steps * batch_size]

    def body(carry: tuple, inputs: tuple) -> tuple[tuple, Metrics]:
      i, index, rng = inputs
      return step(num_steps, frozen, carry, number * num_steps + i, images[index], rng)

    rngs = jax.random.split(rng_steps, num_steps)
    inputs = (jnp.arange(num_steps), order.reshape(num_steps, batch_size), rngs)
    (params, opt_state), metrics = jax.lax.scan(body, (params, opt_state), inputs)
    return params, opt_state, jax.tree.map(jnp.mean, metrics)

  return epoch
