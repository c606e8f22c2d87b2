"""IA-VAE: a hypernetwork adds to the encoder's weights a modulation of its own for every example.

phi_l(x; psi) = phi_AVI,l + h(x, e_l; psi), q(z | x) = q(z; f(x; phi(x; psi)))
(Pollastro et al., arXiv:2604.06796, eqs. 8-10, 17 and Algorithm 1). Still one forward pass. The
base encoder phi_AVI comes from a trained VAE and is frozen: which leaves a stage trains is its
mask's affair (`FROZEN`), so that unfreezing it is a change of the mask, not of the method.

A hypernetwork that reads the ELBO's gradient may do so several times; then psi follows the mean of
the ELBOs after each time, theta the last, as in iterative inference.

Differs from the paper: nothing in the result. By default the modulated layers are computed without
forming the weights of each example (`factored`, equal to the definition to float error).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from iavae import hypernetworks
from iavae.bounds import bound_loss
from iavae.inference.amortized import init_inference
from iavae.modulation import modulate
from iavae.posteriors import gaussian
from iavae.refine import Heads, bound_gradient, describe, heads_bound, loss_of_last
from iavae.types import (
  BATCH,
  Array,
  GenerativeModel,
  Hypernetwork,
  InferenceMethod,
  Metrics,
  Network,
  Params,
  Posterior,
  PosteriorFamily,
)

DEFAULTS: dict[str, object] = {
  'hypernetwork': 'linear',  # a module of iavae.hypernetworks; its own hyperparameters follow
  'condition': 'x',  # what h reads: 'x', 'zeros' (the static control), or 'other' (see `make`)
  'estimator': 'standard',  # of the training loss, or 'antithetic', see `bounds.antithetic_loss`
  'factored': True,  # False: the definition, with weights of its own for every example
}
FROZEN = ('inference/encoder',)


def _zeros(x: Array) -> Array:
  return jnp.zeros_like(x)


def _other(x: Array) -> Array:
  """The partner of an example: 0 and 1, 2 and 3, ...; needs a `vmap` whose axis is called BATCH.

  In batches of even size it is the same one however many examples are worked on at once; in others
  the last three read each other in a circle.
  """
  size = jax.lax.axis_size(BATCH)
  in_pairs = size if size % 2 == 0 else max(size - 3, 0)
  last = range(in_pairs, size)
  pairs = [(i ^ 1, i) for i in range(in_pairs)]
  return jax.lax.ppermute(x, BATCH, pairs + [(last[n - 1], i) for n, i in enumerate(last)])


CONDITIONS: dict[str, Callable[[Array], Array]] = {
  'x': lambda x: x,
  'zeros': _zeros,
  'other': _other,
}


class _Parts(NamedTuple):
  """What an IA-VAE is made of; see `make`."""

  model: GenerativeModel
  encoder: Network
  family: PosteriorFamily
  h: Hypernetwork
  condition: str
  factored: bool

  def psis(self, params: Params) -> list[Params]:
    """psi of each step."""
    psi = params['inference']['hypernetwork']
    return [psi] if self.h.num_steps == 1 else [psi[f'step{i}'] for i in range(self.h.num_steps)]


def _init(parts: _Parts, rng: Array, x: Array) -> Params:
  rng_model, rng_encoder, rng_hypernetwork = jax.random.split(rng, 3)
  inference = init_inference(parts.encoder, parts.family, rng_encoder, x)
  params = {'model': parts.model.init(rng_model), 'inference': inference}
  base, num_steps = inference['encoder'], parts.h.num_steps
  heads = jax.eval_shape(parts.encoder.apply, base, x)
  size = jax.eval_shape(lambda heads: _read(parts, params, heads, x, rng, 1.0)[0], heads).size
  if num_steps == 1:
    inference['hypernetwork'] = parts.h.init(rng_hypernetwork, base, size)
    return params
  rngs = jax.random.split(rng_hypernetwork, num_steps)
  psis = {f'step{i}': parts.h.init(rngs[i], base, size) for i in range(num_steps)}
  inference['hypernetwork'] = psis
  return params


def _read(
  parts: _Parts, params: Params, heads: Heads, x: Array, rng: Array, beta: Array | float
) -> tuple[Array, Array | float]:
  """What h is told, [data_dim], and a term with the ELBO's gradient for those heads, if read."""
  if parts.h.reads == 'x':
    return x.ravel(), 0.0
  features = parts.encoder.features(params['inference']['encoder'], x)
  if parts.h.reads == 'features':
    return features, 0.0
  # As in iterative inference the gradient is an input, not a path: nothing flows back through it
  bound = heads_bound(parts.family, params['inference'], beta)
  gradient = bound_gradient(bound, parts.model, params['model'], heads, x, rng)
  term = sum(jnp.vdot(gradient[name], heads[name]) for name in heads)
  return jnp.append(features, describe(heads, gradient)), term


def _modulated(parts: _Parts, psi: Params, base: Params, x: Array, told: Array) -> Heads:
  """The heads of the modulated encoder."""
  if parts.factored:
    return parts.encoder.apply_layers(parts.h.layers(psi, base, told), base, x)
  return parts.encoder.apply(modulate(base, parts.h.modulation(psi, base, told)), x)


def _run(
  parts: _Parts, params: Params, x: Array, rng: Array, beta: Array | float
) -> tuple[Heads, Array, Array | float]:
  """The last heads, what h read last, and the sum of the earlier terms that depend on psi."""
  base, reads_gradient = params['inference']['encoder'], parts.h.reads == 'gradient'
  heads, total = parts.encoder.apply(base, x) if reads_gradient else {}, 0.0
  for i, psi in enumerate(parts.psis(params)):
    rng_step = jax.random.fold_in(rng, i) if reads_gradient else rng
    told, term = _read(parts, params, heads, x, rng_step, beta)
    told, total = CONDITIONS[parts.condition](told), total + (term if i else 0.0)
    heads = _modulated(parts, psi, base, x, told)
  return heads, told, total


def make(
  model: GenerativeModel,
  encoder: Network,
  *,
  hypernetwork: str = 'linear',
  condition: str = 'x',
  estimator: str = 'standard',
  factored: bool = True,
  family: PosteriorFamily = gaussian.MEAN_FIELD,
  **hyperparameters: object,
) -> InferenceMethod:
  """An IA-VAE; params['inference'] = {'encoder': phi_AVI, 'hypernetwork': psi and embeddings}.

  Args:
    encoder: of x: [H, W, C] or [D] to the heads of the family.
    condition: 'x'; 'zeros': h reads nothing, so all examples share one modulation; 'other': it
      reads another example, its partner in the batch (of a data set, always the same one), as
      informative a priori and useless for this one; alone it has only itself to read.
    factored: changes the cost, not the result.
    hyperparameters: of the hypernetwork, see its module.

  Raises:
    ValueError: for an unknown hypernetwork, hyperparameter or condition, a hypernetwork that reads
      features of an encoder without any, or several steps with another estimator.
  """
  if condition not in CONDITIONS:
    raise ValueError(f'unknown condition {condition!r}; one of {", ".join(CONDITIONS)}')
  h = hypernetworks.make(hypernetwork, **hyperparameters)
  if h.reads != 'x' and encoder.features is None:
    raise ValueError(f'the hypernetwork {hypernetwork!r} reads features, this encoder has none')
  if h.num_steps > 1 and estimator != 'standard':
    raise ValueError('several steps are trained with the standard estimator')
  parts = _Parts(model, encoder, family, h, condition, factored)

  def init(rng: Array, x: Array) -> Params:
    return _init(parts, rng, x)

  def infer(params: Params, x: Array, rng: Array) -> Posterior:
    return family.posterior(params['inference'], _run(parts, params, x, rng, 1.0)[0])

  def modulation(params: Params, x: Array, rng: Array) -> Params:
    _, told, _ = _run(parts, params, x, rng, 1.0)
    return parts.h.modulation(parts.psis(params)[-1], params['inference']['encoder'], told)

  def loss_of_steps(
    params: Params, x: Array, rng: Array, beta: Array | float = 1.0
  ) -> tuple[Array, Metrics]:
    rng_steps, rng_loss = jax.random.split(rng)
    heads, _, total = _run(parts, params, x, rng_steps, beta)
    return loss_of_last(model, family, params, (heads, total, h.num_steps), x, rng_loss, beta)

  loss = loss_of_steps if h.num_steps > 1 else bound_loss(model, infer, estimator)
  return InferenceMethod(init=init, infer=infer, loss=loss, modulation=modulation)
