"""The synthetic experiment's numbers: how close does each posterior come to the exact answer?

Everything is evaluated in float64 with closed forms and quadrature; nothing is sampled.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from iavae import networks, provenance, train
from iavae.models import synthetic
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.refine import Refinement, refinement_path
from iavae.types import Array, InferenceMethod, Params

CHUNK = 250  # examples evaluated at once where memory grows with examples
REFINEMENT_LEARNING_RATES = (0.01, 0.03, 0.1)  # of Adam; the curve shows the best at each step
Stages = Mapping[str, tuple[train.Stage, train.Trained]]
Metrics = dict[str, np.ndarray]


def infer_all(method: InferenceMethod, params: Params, x: Array) -> DiagonalGaussian:
  """q(z | x) of M models on N examples; leaves [M, N, Z]. params: leading axis M; x: [N, D]."""
  rng = jax.random.key(0)  # these methods are deterministic

  def of_model(params: Params) -> DiagonalGaussian:
    return jax.vmap(method.infer, in_axes=(None, 0, None))(params, x, rng)

  return jax.jit(lambda params: jax.lax.map(of_model, params))(params)


def model_metrics(q: DiagonalGaussian, x: Array, noise_scale: float) -> Metrics:
  """'elbo', 'elbo_paper', 'kl': means over the examples, each [M], in nats.

  Args:
    q: leaves [M, N, 2].
    x: [N, 3].
  """

  def of_example(q: DiagonalGaussian, x: Array) -> dict[str, Array]:
    return {
      'elbo': synthetic.elbo(q, x, noise_scale),
      'elbo_paper': synthetic.elbo_paper(q, x, noise_scale),
      'kl': q.standard_normal_kl(),
    }

  def of_model(q: DiagonalGaussian) -> dict[str, Array]:
    return jax.tree.map(jnp.mean, jax.vmap(of_example)(q, x))

  values = jax.jit(lambda q: jax.lax.map(of_model, q))(q)
  return {name: np.asarray(value) for name, value in values.items()}


def exact_references(x: Array, noise_scale: float) -> dict[str, Array]:
  """Per example: log_evidence [N], optimal q, its elbo [N], z_map [N, 2], laplace_covariance."""

  def of_example(x: Array) -> dict[str, Any]:
    q = synthetic.optimal_posterior(x, noise_scale)
    z_map = synthetic.map_estimate(x, noise_scale)
    return {
      'log_evidence': synthetic.log_evidence(x, noise_scale),
      'optimal': q,
      'elbo_optimal': synthetic.elbo(q, x, noise_scale),
      'z_map': z_map,
      'laplace_covariance': synthetic.laplace_covariance(x, z_map, noise_scale),
    }

  return jax.jit(lambda x: jax.lax.map(of_example, x, batch_size=CHUNK))(x)


def posterior_accuracy(
  mean: Array, x: Array, z_map: Array, covariance: Array, noise_scale: float
) -> dict[str, float]:
  """The paper's d_MAP and r_MAP of posterior means; mean, z_map: [N, 2], covariance: [N, 2, 2].

  d_MAP is the mean Mahalanobis distance to the MAP under the Laplace covariance (the paper fits a
  Gaussian to the posterior; moment matching differs by less than .01), r_MAP the mean density ratio
  p(mean | x) / p(z_MAP | x).
  """
  log_joint = jax.vmap(functools.partial(synthetic.log_joint_density, noise_scale=noise_scale))
  offset = mean - z_map
  squared = jnp.einsum('ni,nij,nj->n', offset, jnp.linalg.inv(covariance), offset)
  ratio = jnp.exp(log_joint(x, mean) - log_joint(x, z_map))
  return {'d_map': float(jnp.sqrt(squared).mean()), 'r_map': float(ratio.mean())}


def summary(metrics: Metrics, elbo_optimal: float) -> dict[str, float]:
  """Mean, standard deviation and median over models, and the mean amortization gap, in nats."""
  elbo, paper = metrics['elbo'], metrics['elbo_paper']
  return {
    'elbo_mean': elbo.mean(),
    'elbo_sd': _sd(elbo),
    'elbo_median': np.median(elbo),
    'elbo_paper_mean': paper.mean(),
    'elbo_paper_sd': _sd(paper),
    'elbo_paper_median': np.median(paper),
    'kl_mean': metrics['kl'].mean(),
    'kl_sd': _sd(metrics['kl']),
    'amortization_gap_mean': elbo_optimal - elbo.mean(),
  }


def _sd(values: np.ndarray) -> float:
  return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _table2(base: Metrics, adapted: Metrics, dead_units: np.ndarray, optimal: float) -> list[dict]:
  num_bases = len(dead_units)
  by_base = {name: values.reshape(num_bases, -1) for name, values in adapted.items()}
  wanted = ('elbo_mean', 'elbo_sd', 'elbo_paper_mean', 'elbo_paper_sd', 'kl_mean', 'kl_sd')
  rows = []
  for b in range(num_bases):
    vae = {name: base[name][b] for name in ('elbo', 'elbo_paper', 'kl')}
    vae |= {'dead_units': int(dead_units[b]), 'amortization_gap': optimal - base['elbo'][b]}
    row = summary({name: values[b] for name, values in by_base.items()}, optimal)
    ia_vae = {name: row[name] for name in (*wanted, 'amortization_gap_mean')}
    rows.append({'vae': vae, 'ia_vae': ia_vae})
  return rows


def median_index(values: np.ndarray) -> int:
  """The index of the (lower) median."""
  return int(np.argsort(values)[(len(values) - 1) // 2])


def _controls(
  metrics: dict[str, Metrics], stages: Stages, config: ConfigDict, optimal: float
) -> dict:
  """One row a control; beside them base and IA-VAE with one seed a base, on the same footing."""
  num_seeds = config.num_seeds
  first_seed = {name: values[::num_seeds] for name, values in metrics['adapt'].items()}
  rows = {'vae': ('pretrain', metrics['pretrain']), 'ia_vae': ('adapt', first_seed)}
  rows |= {name: (name, metrics[name]) for name in config.controls}
  result = {}
  for name, (stage_name, values) in rows.items():
    stage, trained = stages[stage_name]
    epochs = trained.epochs[::num_seeds] if name == 'ia_vae' else trained.epochs
    result[name] = summary(values, optimal) | {
      'num_parameters': num_inference_parameters(stage.params),
      'num_models': len(epochs),
      'epochs_mean': epochs.mean(),
    }
  return result


def num_inference_parameters(params: Params) -> int:
  """Parameters of the inference half of one model; params: leading axis M."""
  return sum(leaf[0].size for leaf in jax.tree.leaves(params['inference']))


def _figure7(
  metrics: dict[str, Metrics], config: ConfigDict, optimal: float, adapted: Params
) -> dict:
  vae = []
  for w, width in enumerate(config.widths):
    rows = slice(w * config.num_bases, (w + 1) * config.num_bases)
    values = {name: value[rows] for name, value in metrics['widths'].items()}
    vae.append({'num_parameters': 8 * width + 4} | summary(values, optimal))
  num_parameters = num_inference_parameters(adapted)
  return {
    'vae': vae,
    'ia_vae': {'num_parameters': num_parameters} | summary(metrics['adapt'], optimal),
  }


def _refinement(config: ConfigDict, pair: dict[str, DiagonalGaussian], x: Array) -> dict:
  """Mean exact ELBO after T steps of Adam on (mean, log_scale), at the best of three rates."""
  steps = config.refinement_steps
  if not steps:
    return {'num_steps': [], 'learning_rates': [], 'vae': [], 'ia_vae': []}
  model = synthetic.make(config.data.noise_scale)

  def exact_elbo(model: Any, params: Params, q: DiagonalGaussian, x: Array, rng: Array) -> Array:
    return synthetic.elbo(q, x, config.data.noise_scale)

  @functools.partial(jax.jit, static_argnums=2)
  def curve(q: DiagonalGaussian, x: Array, learning_rate: float) -> Array:
    adam = Refinement(steps[-1], optax.adam(learning_rate), exact_elbo)

    def path(q: DiagonalGaussian, x: Array) -> Array:
      return refinement_path(adam, model, {}, q, x, jax.random.key(0))

    return jax.vmap(path)(q, x).mean(axis=0)

  result: dict[str, Any] = {
    'num_steps': list(steps),
    'learning_rates': list(REFINEMENT_LEARNING_RATES),
  }
  for name, q in pair.items():
    best = np.max([curve(q, x, rate) for rate in REFINEMENT_LEARNING_RATES], axis=0)
    result[name] = best[list(steps)]
  return result


def to_float64(tree: Any) -> Any:
  """Every array of a tree in double precision; needs `jax.enable_x64`."""
  return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)


def _to_json(value: Any) -> Any:
  """Numpy and JAX numbers as plain Python ones."""
  if isinstance(value, dict):
    return {key: _to_json(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_to_json(inner) for inner in value]
  return value.tolist() if hasattr(value, 'tolist') else value


def _pair(metrics: dict[str, Metrics], num_seeds: int) -> dict[str, int]:
  """The models of Table 3: the base of median ELBO and, of its IA-VAEs, that of median ELBO."""
  base = median_index(metrics['pretrain']['elbo'])
  return {
    'base': base,
    'seed': median_index(metrics['adapt']['elbo'].reshape(-1, num_seeds)[base]),
  }


def _references(exact: dict, table2: list[dict], x: Array, noise_scale: float) -> dict[str, float]:
  """Exact values, means over the examples; the gaps are means over the rows without a dead unit."""
  live = [row for row in table2 if row['vae']['dead_units'] == 0] or table2
  optimal = {k: v[0] for k, v in model_metrics(_stack([exact['optimal']]), x, noise_scale).items()}
  log_evidence = float(exact['log_evidence'].mean())
  return {
    'log_evidence': log_evidence,
    'elbo_optimal': optimal['elbo'],
    'elbo_optimal_paper': optimal['elbo_paper'],
    'kl_optimal': optimal['kl'],
    'approximation_gap': log_evidence - optimal['elbo'],
    'amortization_gap_vae': np.mean([row['vae']['amortization_gap'] for row in live]),
    'amortization_gap_ia_vae': np.mean([row['ia_vae']['amortization_gap_mean'] for row in live]),
  }


def _stack(posteriors: list[DiagonalGaussian]) -> DiagonalGaussian:
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *posteriors)


def _per_example(
  pair: dict[str, DiagonalGaussian], exact: dict, x: Array, z: Array, noise_scale: float
) -> Metrics:
  """Everything needed to compute Table 3 again, one row an example."""
  elbo = jax.vmap(functools.partial(synthetic.elbo, noise_scale=noise_scale))
  arrays: dict[str, Array] = {'x': x, 'z': z}
  for name, q in pair.items():
    arrays |= {f'{name}_mean': q.mean, f'{name}_log_scale': q.log_scale, f'{name}_elbo': elbo(q, x)}
  for name in ('log_evidence', 'elbo_optimal', 'z_map', 'laplace_covariance'):
    arrays[name] = exact[name]
  return {name: np.asarray(array) for name, array in arrays.items()}


def _table3(
  pair: dict[str, DiagonalGaussian], exact: dict, x: Array, noise_scale: float
) -> dict[str, dict[str, float]]:
  rows = {}
  for name, q in pair.items():
    metrics = model_metrics(_stack([q]), x, noise_scale)
    accuracy = posterior_accuracy(
      q.mean, x, exact['z_map'], exact['laplace_covariance'], noise_scale
    )
    rows[name] = {key: value[0] for key, value in metrics.items()} | accuracy
  return rows


def dead_units(config: ConfigDict, bases: Params, x: Array) -> np.ndarray:
  """Dead hidden units of every base VAE, [num_bases]; only a ReLU can die."""
  encoders = to_float64(bases['inference']['encoder'])
  counts = jax.vmap(networks.num_dead_units, in_axes=(0, None))(encoders, x)
  return np.asarray(counts) * (config.encoder.activation == 'relu')


def _evaluate(config: ConfigDict, x: Array, z: Array, stages: Stages) -> tuple[dict, Metrics]:
  """`evaluate` in float64, without seconds and provenance."""
  noise_scale = config.data.noise_scale
  exact = exact_references(x, noise_scale)
  optimal = float(exact['elbo_optimal'].mean())
  posteriors = {
    name: infer_all(stage.method, to_float64(trained.params), x)
    for name, (stage, trained) in stages.items()
  }
  metrics = {name: model_metrics(q, x, noise_scale) for name, q in posteriors.items()}
  dead = dead_units(config, stages['pretrain'][1].params, x)
  table2 = _table2(metrics['pretrain'], metrics['adapt'], dead, optimal)
  chosen = _pair(metrics, config.num_seeds)
  adapted = chosen['base'] * config.num_seeds + chosen['seed']
  pair = {
    'vae': jax.tree.map(lambda leaf: leaf[chosen['base']], posteriors['pretrain']),
    'ia_vae': jax.tree.map(lambda leaf: leaf[adapted], posteriors['adapt']),
  }
  results = {
    'table2': table2,
    'table3': _table3(pair, exact, x, noise_scale),
    'table3_pair': chosen,
    'figure7': _figure7(metrics, config, optimal, stages['adapt'][0].params),
    'references': _references(exact, table2, x, noise_scale),
    'controls': _controls(metrics, stages, config, optimal),
    'refinement': _refinement(config, pair, x),
  }
  return results, _per_example(pair, exact, x, z, noise_scale)


def evaluate(config: ConfigDict, x: Array, z: Array, stages: Stages) -> tuple[dict, Metrics]:
  """results.json (see README for its keys) and per_example.npz of a finished run.

  Args:
    x: [N, 3], the data.
    z: [N, 2], the latents that made it.
    stages: name -> (stage, what it trained).
  """
  began = time.perf_counter()
  with jax.enable_x64(True):
    results, per_example = _evaluate(config, to_float64(x), to_float64(z), stages)
  seconds = {name: stages[name][1].seconds for name in ('pretrain', 'adapt')}
  seconds['evaluate'] = time.perf_counter() - began
  seconds['total'] = seconds['evaluate'] + sum(trained.seconds for _, trained in stages.values())
  results |= {'seconds': seconds, 'provenance': provenance.describe(config)}
  return _to_json(results), per_example
