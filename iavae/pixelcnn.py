"""PixelCNN: which pixel comes next, given the pixels before it and a latent?

The gated PixelCNN (van den Oord et al., arXiv:1606.05328) as the decoder of SA-VAE
(arXiv:1802.02550) and IA-VAE (arXiv:2604.06796). The vertical stack reads the rows above a pixel;
the horizontal stack reads the pixels to its left and, by 1x1 convolutions, the vertical stack; z
enters as feature maps beside the image. Each feature is tanh(u1) sigmoid(u2) of two convolutions.
"""

import jax
import jax.numpy as jnp

from iavae.convolution import Padding, convolve
from iavae.layers import he_normal, torch_uniform
from iavae.models.vae import bernoulli_mean
from iavae.types import Array, Decoder, Params


def make(
  latent_dim: int,
  image_shape: tuple[int, int, int] = (28, 28, 1),
  features: int = 32,
  kernel_sizes: tuple[int, ...] = (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3),
  num_latent_maps: int = 4,
  fix_vertical_shift: bool = False,
) -> Decoder:
  """The gated PixelCNN decoder of one example.

  The first layer hides from a pixel z's maps at that pixel, too: the first logit is a constant.

  Args:
    latent_dim: Z.
    image_shape: H, W, C; the channels of a pixel are independent given the pixels before.
    features: width of both stacks.
    kernel_sizes: one odd size a layer.
    num_latent_maps: how many feature maps [H, W] are made of z.
    fix_vertical_shift: False, as SA-VAE: every layer shifts the vertical stack itself down by a
      row, so that its n-th layer reads the rows up to i - n only. True: only what the horizontal
      stack reads is shifted, and every layer reads the rows up to i - 1.

  Returns:
    A Decoder; params {'latent_maps': .., 'layer_00': {'vertical', 'horizontal',
    'vertical_to_horizontal', 'output'}, .., 'logits': ..}, each {'kernel', 'bias'}.

  Raises:
    ValueError: for an even kernel size.
  """
  if any(size % 2 == 0 for size in kernel_sizes):
    raise ValueError(f'kernel sizes must be odd, not {kernel_sizes}')
  height, width, channels = image_shape
  shapes = _kernel_shapes(channels, features, kernel_sizes, num_latent_maps)

  def init(rng: Array) -> Params:
    rng_maps, rng_layers = jax.random.split(rng)
    maps = he_normal(rng_maps, (latent_dim, num_latent_maps * height * width))
    return {'latent_maps': maps} | torch_uniform(rng_layers, shapes)

  def maps(params: Params, z: Array) -> Array:
    layer = params['latent_maps']
    flat = z @ layer['kernel'] + layer['bias']
    return jnp.moveaxis(flat.reshape(num_latent_maps, height, width), 0, 2)

  def sample(params: Params, z: Array, rng: Array) -> Array:
    return sample_with_logits(params, maps(params, z), rng, fix_vertical_shift)[0]

  return Decoder(
    init=init,
    logits=lambda params, x, z: _logits(params, x, maps(params, z), fix_vertical_shift),
    sample=sample,
    autoregressive=True,
  )


def sample_naively(decoder: Decoder, params: Params, z: Array, rng: Array) -> Array:
  """The definition of a sample: pixel by pixel in raster order, a full pass for each.

  x_ij = [u_ij < sigmoid(logits_ij(x, z))], u = jax.random.uniform(rng, [H, W, C]), where the
  probability is clipped as in the likelihood.

  Args:
    z: [Z].

  Returns:
    x: [H, W, C] in {0., 1.}.
  """
  shape = jax.eval_shape(decoder.sample, params, z, rng).shape
  uniforms = jax.random.uniform(rng, shape, z.dtype)

  def pixel(index: Array, x: Array) -> Array:
    i, j = index // shape[1], index % shape[1]
    return x.at[i, j].set(_draw(decoder.logits(params, x, z)[i, j], uniforms[i, j]))

  return jax.lax.fori_loop(0, shape[0] * shape[1], pixel, jnp.zeros(shape, z.dtype))


def sample_with_logits(
  params: Params, maps: Array, rng: Array, fix_vertical_shift: bool = False
) -> tuple[Array, Array]:
  """The sample of `sample_naively`, every feature computed once: the arithmetic of one pass.

  The vertical stack advances by rows and keeps, of every layer's input, the rows under the kernel;
  the horizontal stack likewise by columns.

  Args:
    params: of `make`.
    maps: the feature maps of z, [H, W, num_latent_maps].

  Returns:
    x and its logits, [H, W, C] each.
  """
  height, width, _ = maps.shape
  uniforms = jax.random.uniform(rng, (height, width, params['logits']['bias'].size), maps.dtype)
  kernels = [layer['vertical']['kernel'] for layer in _layers(params)]

  def row(caches: list[Array], inputs: tuple) -> tuple[list[Array], tuple[Array, Array]]:
    i, maps, uniforms = inputs
    caches, above = _vertical_row(params, caches, i > 0, fix_vertical_shift)
    x, logits = _sample_row(params, above, maps, uniforms)
    caches[0] = _push(caches[0], jnp.concatenate([x, maps], axis=1))
    return caches, (x, logits)

  caches = [jnp.zeros((k.shape[0], width, k.shape[2]), maps.dtype) for k in kernels]
  return jax.lax.scan(row, caches, (jnp.arange(height), maps, uniforms))[1]


def _kernel_shapes(
  channels: int, features: int, kernel_sizes: tuple[int, ...], num_latent_maps: int
) -> dict:
  shapes, c_in = {}, channels + num_latent_maps
  for n, size in enumerate(kernel_sizes):
    shapes[f'layer_{n:02d}'] = {
      'vertical': (size // 2 + 1, size, c_in, 2 * features),
      'horizontal': (1, size // 2 + 1, c_in, 2 * features),
      'vertical_to_horizontal': (1, 1, 2 * features, 2 * features),
      'output': (1, 1, features, features),
    }
    c_in = features
  return shapes | {'logits': (1, 1, features, channels)}


def _layers(params: Params) -> list[Params]:
  return [params[name] for name in sorted(params) if name.startswith('layer_')]


def _affine(u: Array, layer: Params, padding: Padding = ((0, 0), (0, 0))) -> Array:
  return convolve(u, layer['kernel'], padding=padding) + layer['bias']


def _affine_shifted(u: Array, layer: Params, padding: Padding, axis: int) -> Array:
  """`_affine`, then moved on by one pixel, 0 (not the bias) moving in; without the copies."""
  shifted = [(low + (a == axis), high - (a == axis)) for a, (low, high) in enumerate(padding)]
  is_inside = jnp.expand_dims(jnp.arange(u.shape[axis]) > 0, (1, 2) if axis == 0 else (0, 2))
  bias = jnp.where(is_inside, layer['bias'], 0)
  return convolve(u, layer['kernel'], padding=tuple(shifted)) + bias


def _gate(u: Array) -> Array:
  first, second = jnp.split(u, 2, axis=-1)
  return jnp.tanh(first) * jax.nn.sigmoid(second)


def _logits(params: Params, x: Array, maps: Array, fix_vertical_shift: bool) -> Array:
  vertical = horizontal = jnp.concatenate([x, maps], axis=2)
  for n, layer in enumerate(_layers(params)):
    p = layer['vertical']['kernel'].shape[0] - 1
    if fix_vertical_shift:
      unshifted = _affine(vertical, layer['vertical'], ((p, 0), (p, p)))
      above = jnp.pad(unshifted[:-1], ((1, 0), (0, 0), (0, 0)))
    else:
      unshifted = above = _affine_shifted(vertical, layer['vertical'], ((p, 0), (p, p)), axis=0)
    vertical = _gate(unshifted)
    above = _affine(above, layer['vertical_to_horizontal'])
    if n == 0:  # its input is the image: a pixel must not see itself, here and by a residual
      left = _affine_shifted(horizontal, layer['horizontal'], ((0, 0), (p, 0)), axis=1)
      horizontal = _affine(_gate(left + above), layer['output'])
    else:
      left = _affine(horizontal, layer['horizontal'], ((0, 0), (p, 0)))
      horizontal = horizontal + _affine(_gate(left + above), layer['output'])
  return _affine(horizontal, params['logits'])


def _push(cache: Array, item: Array) -> Array:
  return jnp.concatenate([cache[1:], item[None]])


def _dense(u: Array, layer: Params, has_bias: Array | bool = True) -> Array:
  """`_affine` where the kernel covers all of u."""
  return u.ravel() @ layer['kernel'].reshape(u.size, -1) + jnp.where(has_bias, layer['bias'], 0)


def _draw(logits: Array, uniforms: Array) -> Array:
  return (uniforms < bernoulli_mean(logits)).astype(uniforms.dtype)


def _vertical_row(
  params: Params, caches: list[Array], is_inside: Array, fix_vertical_shift: bool
) -> tuple[list[Array], list[Array]]:
  """The next row of the vertical stack, as the horizontal stack reads it (shifted).

  Args:
    caches: one [p + 1, W, C_in] a layer, the last rows of its input; of the first, the image, up to
      the row above.
    is_inside: whether there is a row above, [].

  Returns:
    The caches with the new rows, and the row of every layer by `vertical_to_horizontal`,
    [W, 2 features].
  """
  pushed, above, below = [], [], None
  for n, (layer, cache) in enumerate(zip(_layers(params), caches, strict=True)):
    pushed.append(cache if n == 0 else _push(cache, below))
    p = cache.shape[0] - 1
    # shifted in every layer: the row that the layer below has just made is not read yet
    rows = pushed[n] if fix_vertical_shift else cache
    bias = jnp.where(is_inside, layer['vertical']['bias'], 0)
    out = convolve(rows, layer['vertical']['kernel'], padding=((0, 0), (p, p))) + bias
    above.append(_affine(out, layer['vertical_to_horizontal'])[0])
    below = _gate(out)[0]
  return pushed, above


def _sample_row(
  params: Params, above: list[Array], maps: Array, uniforms: Array
) -> tuple[Array, Array]:
  """One row of pixels and their logits, [W, C] each.

  Args:
    above: what every layer adds of the vertical stack, [W, 2 features] each.
    maps: [W, num_latent_maps].
    uniforms: [W, C].
  """
  layers = _layers(params)

  def column(caches: list[Array], inputs: tuple) -> tuple[list[Array], tuple[Array, Array]]:
    j, above, maps, uniforms = inputs
    pushed, h = [], None
    for n, (layer, cache) in enumerate(zip(layers, caches, strict=True)):
      pushed.append(cache if n == 0 else _push(cache, h))
      left = _dense(pushed[n], layer['horizontal'], has_bias=(n > 0) | (j > 0))
      out = _dense(_gate(left + above[n]), layer['output'])
      h = out if n == 0 else h + out
    logits = _dense(h, params['logits'])
    x = _draw(logits, uniforms)
    pushed[0] = _push(pushed[0], jnp.concatenate([x, maps]))
    return pushed, (x, logits)

  kernels = [layer['horizontal']['kernel'] for layer in layers]
  caches = [jnp.zeros(k.shape[1:3], maps.dtype) for k in kernels]
  return jax.lax.scan(column, caches, (jnp.arange(len(maps)), above, maps, uniforms))[1]
