"""Networks by name: the only file that knows flax.linen; everything else sees a `Network`."""

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


class _Dense(nn.Module):
  """W u + b with PyTorch's initialization, U(+-1/sqrt(D_in)) for both."""

  features: int

  @nn.compact
  def __call__(self, u: Array) -> Array:
    limit = u.size**-0.5

    def uniform(rng: Array, shape: tuple[int, ...]) -> Array:
      return jax.random.uniform(rng, shape, minval=-limit, maxval=limit)

    kernel = self.param('kernel', uniform, (u.size, self.features))
    bias = self.param('bias', uniform, (self.features,))
    return layers.linear({'kernel': kernel, 'bias': bias}, u)


class _MLP(nn.Module):
  hidden: tuple[int, ...]
  heads: Mapping[str, int]
  activation: str

  @nn.compact
  def __call__(self, x: Array) -> dict[str, Array]:
    u = x.ravel()
    for i, width in enumerate(self.hidden):
      pre_activation = width * (2 if self.activation == 'glu' else 1)
      u = ACTIVATIONS[self.activation](_Dense(pre_activation, name=f'hidden_{i}')(u))
    return {name: _Dense(size, name=name)(u) for name, size in self.heads.items()}


def mlp(hidden: tuple[int, ...], heads: Mapping[str, int], activation: str = 'relu') -> Network:
  """A multilayer perceptron with named linear heads.

  Args:
    hidden: widths of the hidden layers.
    heads: name -> size, e.g. {'mean': Z, 'log_var': Z}.
    activation: a key of ACTIVATIONS; 'glu' doubles the pre-activations.

  Returns:
    A Network of x: [...] (flattened) to {name: [size]}; params {layer: {'kernel', 'bias'}} with
    layers hidden_0, ..., and the heads' names.

  Raises:
    ValueError: for an unknown activation.
  """
  if activation not in ACTIVATIONS:
    raise ValueError(f'unknown activation {activation!r}; one of {", ".join(ACTIVATIONS)}')
  module = _MLP(tuple(hidden), dict(heads), activation)

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
