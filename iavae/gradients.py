"""The gradient of a batch: how is it computed without leaving the cache?

On a CPU a convolutional decoder is twice as fast on ten images as on fifty, so a batch is worked
off in micro-batches, one after the other. Batch normalization couples the examples of a batch; then
the encoder sees all of it and only the decoder works in micro-batches: the gradient with respect to
its heads is all that the encoder needs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from iavae.bounds import posterior_loss
from iavae.freezing import merge
from iavae.types import BATCH, Array, GenerativeModel, InferenceMethod, Metrics, Params


def lower_precision(params: Params, dtype: str) -> Params:
  """Kernels in `dtype`, all else as it is: layers multiply in the precision of their kernel.

  A hypernetwork keeps its own: it makes small changes of weights, of which little would be left.
  """

  def lower(path: jax.tree_util.KeyPath, leaf: Array) -> Array:
    names = [key.key for key in path]
    return leaf.astype(dtype) if names[-1] == 'kernel' and 'hypernetwork' not in names else leaf

  return jax.tree_util.tree_map_with_path(lower, params)


def _split(tree: Any, size: int) -> Any:
  """[B, ...] -> [B / size, size, ...]; a batch that is spread over devices stays where it is."""
  return jax.tree.map(
    lambda a: jnp.swapaxes(a.reshape(size, a.shape[0] // size, *a.shape[1:]), 0, 1), tree
  )


def _join(tree: Any) -> Any:
  """The inverse of `_split`."""
  return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1).reshape(-1, *a.shape[2:]), tree)


def _accumulate(part: Callable[..., tuple[Params, Any]], size: int, *batch: Any) -> tuple:
  """(mean over micro-batches of the first result of `part`, the second ones stacked)."""
  pieces = _split(batch, size)
  num = len(jax.tree.leaves(pieces)[0])
  zero = jax.tree.map(
    jnp.zeros_like, jax.eval_shape(lambda: part(*jax.tree.map(lambda a: a[0], pieces))[0])
  )

  def body(total: Params, piece: tuple) -> tuple[Params, Any]:
    gradient, rest = part(*piece)
    return jax.tree.map(jnp.add, total, gradient), rest

  total, rest = jax.lax.scan(body, zero, pieces)
  return jax.tree.map(lambda a: a / num, total), rest


class _Batch(NamedTuple):
  """Examples [B, ...], their keys [B], the KL weight, and how many to work on at once."""

  x: Array
  rngs: Array
  beta: Array
  size: int


def _gradient_of_loss(
  method: InferenceMethod, complete: Callable[[Params], Params], params: Params, batch: _Batch
) -> tuple[Params, Metrics]:
  def mean_loss(params: Params, x: Array, rngs: Array) -> tuple[Array, Metrics]:
    loss = jax.vmap(method.loss, in_axes=(None, 0, 0, None), axis_name=BATCH)
    losses, metrics = loss(complete(params), x, rngs, batch.beta)
    return jnp.mean(losses), metrics

  def part(x: Array, rngs: Array) -> tuple[Params, Metrics]:
    return jax.grad(mean_loss, has_aux=True)(params, x, rngs)

  return _accumulate(part, batch.size, batch.x, batch.rngs)


def _gradient_through_heads(
  model: GenerativeModel,
  method: InferenceMethod,
  complete: Callable[[Params], Params],
  params: Params,
  batch: _Batch,
) -> tuple[Params, Metrics]:
  def infer(params: Params) -> tuple[Any, Array]:
    infer = jax.vmap(method.infer_train, in_axes=(None, 0, 0), axis_name=BATCH)
    heads, tracking = infer(complete(params), batch.x, batch.rngs)
    return heads, jnp.mean(tracking)

  def mean_loss(params: Params, heads: Any, x: Array, rngs: Array) -> tuple[Array, Metrics]:
    full = complete(params)

    def loss(heads: Any, x: Array, rng: Array) -> tuple[Array, Metrics]:
      return posterior_loss(model, full['model'], method.posterior(full, heads), x, rng, batch.beta)

    losses, metrics = jax.vmap(loss)(heads, x, rngs)
    return jnp.mean(losses), metrics

  def part(heads: Any, x: Array, rngs: Array) -> tuple[Params, Any]:
    gradients, metrics = jax.grad(mean_loss, (0, 1), has_aux=True)(params, heads, x, rngs)
    return gradients[0], (gradients[1], metrics)

  (heads, tracking), pull_back = jax.vjp(infer, params)
  pieces = (heads, batch.x, batch.rngs)
  gradient, (of_heads, metrics) = _accumulate(part, batch.size, *pieces)
  of_heads = jax.tree.map(lambda a: a * batch.size / len(batch.x), _join(of_heads))
  (of_encoder,) = pull_back((of_heads, jnp.ones_like(tracking)))
  return jax.tree.map(jnp.add, gradient, of_encoder), metrics


def make_gradient(
  model: GenerativeModel,
  method: InferenceMethod,
  *,
  micro_batch: int,
  precision: str = 'float32',
) -> Callable[..., tuple[Params, Metrics]]:
  """gradient(params, frozen, x, rngs, beta) -> (gradient of the mean loss, mean metrics).

  `params` and `frozen` are the two halves of `freezing.partition`; x: [B, ...]; rngs: [B].

  Args:
    micro_batch: examples at once; divides B.
    precision: of the kernels; params and gradients stay float32.
  """

  def gradient(
    params: Params, frozen: Params, x: Array, rngs: Array, beta: Array
  ) -> tuple[Params, Metrics]:
    def complete(params: Params) -> Params:
      merged = merge(params, frozen)
      return merged if precision == 'float32' else lower_precision(merged, precision)

    batch = _Batch(x, rngs, beta, micro_batch)
    if method.infer_train:
      slope, metrics = _gradient_through_heads(model, method, complete, params, batch)
    else:
      slope, metrics = _gradient_of_loss(method, complete, params, batch)
    return slope, jax.tree.map(jnp.mean, metrics)

  return gradient
