"""Networks by name: the only file that knows flax.linen; everything else sees a `Network`."""

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from iavae import layers
from iavae.types import Array, Linear, Network, Params


def glu(u: Array) -> Array:
  """Gated linear unit without a squashing gate, u1 * u2: [2 H] -> [H] (a bilinear layer)."""
  first, second = jnp.split(u, 2, axis=-1)
  return first * second


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
  'relu': nn.relu,
  'silu': nn.silu,
  'elu': nn.elu,
  'tanh': nn.tanh,
  'glu': glu,
}


INITIALIZATIONS = ('torch', 'lecun')


class _Dense(nn.Module):
  """W u + b; 'torch': U(+-1/sqrt(D_in)) for both, 'lecun': W ~ N(0, 1/D_in) and b = 0."""

  features: int
  initialization: str

  @nn.compact
  def __call__(self, u: Array) -> Array:
    limit = u.size**-0.5

    def uniform(rng: Array, shape: tuple[int, ...]) -> Array:
      return jax.random.uniform(rng, shape, minval=-limit, maxval=limit)

    def normal(rng: Array, shape: tuple[int, ...]) -> Array:
      return limit * jax.random.normal(rng, shape)

    is_torch = self.initialization == 'torch'
    kernel = self.param('kernel', uniform if is_torch else normal, (u.size, self.features))
    bias = self.param('bias', uniform if is_torch else nn.initializers.zeros, (self.features,))
    return layers.linear({'kernel': kernel, 'bias': bias}, u)


class _MLP(nn.Module):
  hidden: tuple[int, ...]
  heads: Mapping[str, int]
  activation: str
  initialization: str

  @nn.compact
  def __call__(self, x: Array) -> dict[str, Array]:
    u = x.ravel()
    for i, width in enumerate(self.hidden):
      pre_activation = width * (2 if self.activation == 'glu' else 1)
      layer = _Dense(pre_activation, self.initialization, name=f'hidden_{i}')
      u = ACTIVATIONS[self.activation](layer(u))
    make = functools.partial(_Dense, initialization=self.initialization)
    return {name: make(size, name=name)(u) for name, size in self.heads.items()}


def mlp(
  hidden: tuple[int, ...],
  heads: Mapping[str, int],
  activation: str = 'relu',
  initialization: str = 'torch',
) -> Network:
  """A multilayer perceptron with named linear heads.

  Args:
    hidden: widths of the hidden layers.
    heads: name -> size, e.g. {'mean': Z, 'log_var': Z}.
    activation: a key of ACTIVATIONS; 'glu' doubles the pre-activations.
    initialization: 'torch', a third of the variance for a kernel, or 'lecun'.

  Returns:
    A Network of x: [...] (flattened) to {name: [size]}; params {layer: {'kernel', 'bias'}} with
    layers hidden_0, ..., and the heads' names.

  Raises:
    ValueError: for an unknown activation or initialization.
  """
  if activation not in ACTIVATIONS:
    raise ValueError(f'unknown activation {activation!r}; one of {", ".join(ACTIVATIONS)}')
  if initialization not in INITIALIZATIONS:
    known = ', '.join(INITIALIZATIONS)
    raise ValueError(f'unknown initialization {initialization!r}; one of {known}')
  module = _MLP(tuple(hidden), dict(heads), activation, initialization)

  def init(rng: Array, x: Array) -> Params:
    return module.init(rng, x)['params']

  def apply_layers(linear: Linear, params: Params, x: Array) -> dict[str, Array]:
    u = x.ravel()
    for i in range(len(hidden)):
      u = ACTIVATIONS[activation](linear(f'hidden_{i}', u))
    return {name: linear(name, u) for name in heads}

  def features(params: Params, x: Array) -> Array:
    return ACTIVATIONS[activation](layers.linear(params['hidden_0'], x.ravel()))

  return Network(
    init=init,
    apply=lambda params, x: module.apply({'params': params}, x),
    apply_layers=apply_layers,
    features=features,
  )


def num_dead_units(params: Params, x: Array) -> Array:
  """How many units of an MLP's first hidden layer a ReLU never lets through on a data set, [].

  Args:
    params: of `mlp`.
    x: [N, D].
  """
  layer = params['hidden_0']
  return jnp.sum(jnp.all(x @ layer['kernel'] + layer['bias'] <= 0, axis=0))
