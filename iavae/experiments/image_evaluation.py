"""From trained models to results.json: what do the image experiments report?"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from iavae.statistics import paired_comparison
from iavae.types import BATCH, Array, GenerativeModel, InferenceMethod, Params

NUM_RECONSTRUCTIONS = 10
NUM_SAMPLES = 40

Row = dict[str, Any]


def make_row(metrics: Mapping[str, np.ndarray], iwae_samples: int, labels: Row) -> Row:
  """One row of the table: means over the examples, nats.

  Args:
    metrics: {metric: [N]} of one method, seed and split.
    labels: dataset, protocol, preset, method, seed, split.
  """
  means = {name: float(np.mean(values, dtype=np.float64)) for name, values in metrics.items()}
  return labels | {'num_examples': len(metrics['elbo'])} | means | {'iwae_samples': iwae_samples}


def compare(rows: Sequence[Row], adapted: str) -> list[dict[str, Any]]:
  """Paired tests over seeds: the adapted method against each other one, each against the base."""
  methods = list(dict.fromkeys(row['method'] for row in rows))
  others = [name for name in methods if name != adapted]
  pairs = [(adapted, other) for other in others if adapted in methods]
  pairs += [(name, 'base') for name in others if name != 'base']

  def values(method: str, split: str, metric: str) -> list[float]:
    return [row[metric] for row in rows if (row['method'], row['split']) == (method, split)]

  return [
    {'dataset': rows[0]['dataset'], 'split': split}
    | paired_comparison(
      values(a, split, metric), values(b, split, metric), name_a=a, name_b=b, metric=metric
    )
    for split in ('test', 'validation')
    for metric in ('elbo', 'iwae')
    for a, b in pairs
  ]


def draw_pictures(
  model: GenerativeModel, method: InferenceMethod, params: Params, x: Array, rng: Array
) -> dict[str, np.ndarray]:
  """Reconstructions of x, [n, H, W, C], and draws from the model, [NUM_SAMPLES, H, W, C].

  A reconstruction is z ~ q, then the mean of p(x | z), or a draw for an autoregressive decoder.
  """
  rng_infer, rng_z, rng_pixels, rng_prior = jax.random.split(rng, 4)

  def reconstruct(x: Array, i: Array) -> Array:
    q = method.infer(params, x, jax.random.fold_in(rng_infer, i))
    z, _ = q.sample_and_log_prob(jax.random.fold_in(rng_z, i))
    if model.decode is not None:
      return model.decode(params['model'], z)
    return model.sample(params['model'], z, jax.random.fold_in(rng_pixels, i))

  def sample(rng: Array) -> Array:
    rng_z, rng_x = jax.random.split(rng)
    z = model.sample_prior(params['model'], rng_z)
    return model.sample(params['model'], z, rng_x)

  reconstructions = jax.jit(jax.vmap(reconstruct, axis_name=BATCH))(
    x.astype(jnp.float32), jnp.arange(len(x))
  )
  samples = jax.jit(jax.vmap(sample))(jax.random.split(rng_prior, NUM_SAMPLES))
  return jax.device_get({'reconstruction': reconstructions, 'samples': samples})
