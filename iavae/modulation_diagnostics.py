"""What does a hypernetwork do to its encoder: how much, and how much of it depends on x?"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from iavae.evaluate import over_examples
from iavae.types import Array, InferenceMethod, Params

_ROUNDING = 1e-12  # a share of less is that of float32


def _matrix(layer: Params, num_examples: int) -> np.ndarray:
  """The entries of a layer for each example, [N, P]."""
  flat = [np.reshape(leaf, (num_examples, -1)) for leaf in jax.tree.leaves(layer)]
  return np.concatenate(flat, axis=1)


def effective_rank(gram: np.ndarray) -> float:
  """exp(-sum_k p_k log p_k), p_k the eigenvalues of a Gram matrix over their sum; 0 for none.

  Of equal eigenvalues it is their number (Roy & Vetterli, EUSIPCO 2007, with squared singular
  values: shares of the variance).

  Args:
    gram: [N, N], H H^T of rows without their mean.
  """
  values = np.maximum(np.linalg.eigvalsh(gram), 0.0)
  if not values.sum():
    return 0.0
  shares = values[values > 0] / values.sum()
  return float(np.exp(-np.sum(shares * np.log(shares))))


def summarize(modulations: Params, base: Params) -> dict[str, Any]:
  """Sizes of h(x) and how it varies between examples, ready for JSON.

  Args:
    modulations: {layer: tensors [N, ...]}, h of N examples, in the space of weights.
    base: {layer: tensors}; layers without a kernel, batch normalization, are left out.

  Returns:
    num_examples; relative_norm, E ||h(x)|| / ||phi||, and relative_norm_per_layer, of those where
    phi is not 0; share_varying, E ||h - E h||^2 / E ||h||^2, 0 for static fine-tuning and 1 if
    nothing is common to all examples; effective_rank of {h(x)} without its mean, at most N - 1.
  """
  names = sorted(name for name in base if 'kernel' in base[name])
  count = len(jax.tree.leaves(modulations)[0])
  squares, base_squares, gram = {}, {}, np.zeros((count, count))
  for name in names:  # one at a time, for memory
    h = _matrix(modulations[name], count)
    squares[name] = np.sum(h**2, axis=1, dtype=np.float64)
    phi = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(base[name])])
    base_squares[name] = np.sum(phi**2, dtype=np.float64)
    # The mean in float64: of equal entries it is that entry, and nothing of them varies
    centered = h - h.mean(axis=0, dtype=np.float64).astype(h.dtype)
    gram += centered @ centered.T

  def relative(of: np.ndarray, to: float) -> float:
    return float(np.mean(np.sqrt(of)) / np.sqrt(to))

  total = sum(squares.values())
  share = float(np.trace(gram) / total.sum()) if total.any() else 0.0
  return {
    'num_examples': count,
    'relative_norm': relative(total, sum(base_squares.values())),
    'relative_norm_per_layer': {
      n: relative(squares[n], base_squares[n]) for n in names if base_squares[n]
    },
    'share_varying': share if share > _ROUNDING else 0.0,
    'effective_rank': effective_rank(gram) if share > _ROUNDING else 0.0,
  }


def make_modulation_diagnostics(
  method: InferenceMethod, *, at_once: int
) -> Callable[[Params, Array, Array], dict[str, Any] | None]:
  """diagnose(params, x: [N, ...], rng) -> `summarize`, or None for a method without modulation."""
  if method.modulation is None:
    return lambda params, x, rng: None
  every = over_examples(method.modulation, at_once)

  def diagnose(params: Params, x: Array, rng: Array) -> dict[str, Any]:
    base = jax.device_get(params['inference']['encoder'])
    return summarize(every(params, x, rng), base)

  return diagnose
