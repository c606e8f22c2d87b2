"""The PixelCNN against numpy, its order by autodiff, its sampler against the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import pixelcnn
from iavae.models.vae import bernoulli_log_likelihood
from rounding import assert_within_ulps

SHAPE, LATENT_DIM = (5, 4, 2), 3
both_shifts = pytest.mark.parametrize('fix', [False, True])


def draw(decoder, scale=1.0, seed=0):
  """Parameters like those of `init`, without its compilation; scale 1 keeps variances."""
  rng = np.random.default_rng(seed)

  def normal(leaf):
    values = rng.standard_normal(leaf.shape) * scale * np.prod(leaf.shape[:-1]) ** -0.5
    return jnp.asarray(values, leaf.dtype)

  return jax.tree.map(normal, jax.eval_shape(decoder.init, jax.random.key(0)))


def small(fix, shape=SHAPE, kernel_sizes=(5, 3, 3)):
  decoder = pixelcnn.make(LATENT_DIM, shape, 4, kernel_sizes, 2, fix)
  return decoder, draw(decoder), jnp.array([0.5, -1.2, 0.8])


def image(shape=SHAPE):
  return jax.random.bernoulli(jax.random.key(2), shape=shape).astype(float)


def maps_of(params, z, height, width):
  layer = params['latent_maps']
  flat = np.asarray(z) @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])
  return flat.reshape(-1, height, width).transpose(1, 2, 0)


def convolve_in_loops(u, layer, top=0, left=0, right=0):
  """Pad, cross-correlate, add the bias: pixel by pixel."""
  kernel = layer['kernel']
  padded = np.pad(u, ((top, 0), (left, right), (0, 0)))
  out = np.zeros((*u.shape[:2], kernel.shape[3]))
  for i, j in np.ndindex(*u.shape[:2]):
    window = padded[i : i + kernel.shape[0], j : j + kernel.shape[1]]
    out[i, j] = np.einsum('abc,abco->o', window, kernel) + layer['bias']
  return out


def gate(u):
  first, second = np.split(u, 2, axis=2)
  return np.tanh(first) / (1 + np.exp(-second))


def numpy_logits(params, x, z, fix):
  """The network as SA-VAE's code describes it: convolve, then move the result by one pixel."""
  params = jax.tree.map(np.asarray, params)
  v = h = np.concatenate([x, maps_of(params, z, *x.shape[:2])], axis=2)
  for n in range(len(params) - 2):
    layer = params[f'layer_{n:02d}']
    p = layer['vertical']['kernel'].shape[1] // 2
    v = convolve_in_loops(v, layer['vertical'], p, p, p)
    shifted = np.concatenate([np.zeros_like(v[:1]), v[:-1]], axis=0)
    left = convolve_in_loops(h, layer['horizontal'], left=p)
    if n == 0:
      left = np.concatenate([np.zeros_like(left[:, :1]), left[:, :-1]], axis=1)
    out = gate(left + convolve_in_loops(shifted, layer['vertical_to_horizontal']))
    out = convolve_in_loops(out, layer['output'])
    h = out if n == 0 else h + out
    v = gate(v if fix else shifted)
  return convolve_in_loops(h, params['logits'])


def test_the_744801_parameters():
  shapes = jax.eval_shape(pixelcnn.make(32).init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 744_801


def test_initialization():
  decoder = pixelcnn.make(32, (8, 8, 1), 8, (5, 3), 4)
  params = jax.jit(decoder.init)(jax.random.key(0))
  maps, logits = params.pop('latent_maps'), params.pop('logits')
  # He-normal: 5 standard errors of a standard deviation
  error = 5 * 0.25 / np.sqrt(2 * maps['kernel'].size)
  assert np.std(maps['kernel']) == pytest.approx(0.25, abs=error)
  for layer in [logits, *(layer for layers in params.values() for layer in layers.values())]:
    limit = np.prod(layer['kernel'].shape[:3]) ** -0.5
    assert 0.7 * limit < np.abs(layer['kernel']).max() <= limit
    assert np.abs(layer['bias']).max() <= limit


@both_shifts
def test_logits_equal_loops_in_numpy(fix, x64):
  decoder, params, z = small(fix)
  expected = numpy_logits(params, image(), z, fix)
  logits = jax.jit(decoder.logits)(params, image(), z)
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10)


@both_shifts
def test_a_pixel_reads_the_pixels_before_and_no_other(fix):
  decoder, params, z = small(fix)
  jacobian = jax.jit(jax.jacobian(decoder.logits, argnums=1))(params, image(), z)
  reads = np.any(np.asarray(jacobian) != 0, axis=(2, 5))  # [H, W, H, W]
  for i, j, k, l in np.ndindex(*reads.shape):
    if (k, l) >= (i, j):
      assert not reads[i, j, k, l]
    elif (k, l) in {(i, j - 1), (i - 1, j), (i - 1, j + 1)}:
      assert reads[i, j, k, l]


@both_shifts
def test_every_pixel_but_the_first_reads_the_latent(fix):
  """The first mask hides z's maps at a pixel from that pixel, so the first one sees none."""
  decoder, params, z = small(fix)
  jacobian = jax.jit(jax.jacobian(decoder.logits, argnums=2))(params, image(), z)
  reads = np.any(np.asarray(jacobian) != 0, axis=(2, 3))
  assert not reads[0, 0]
  assert np.sum(reads) == reads.size - 1


@both_shifts
def test_zeros_move_in_and_not_the_bias(fix):
  decoder, params, z = small(fix)
  jacobian = jax.jit(jax.jacobian(decoder.logits))(params, image(), z)
  for n in range(3):
    assert not np.any(jacobian[f'layer_{n:02d}']['vertical']['bias'][0])
    assert np.any(jacobian[f'layer_{n:02d}']['vertical']['bias'][1:])
  assert not np.any(jacobian['layer_00']['horizontal']['bias'][0, 0])
  assert np.any(jacobian['layer_00']['horizontal']['bias'][0, 1])


@both_shifts
@pytest.mark.parametrize(
  'make', [small, lambda fix: small(fix, (6, 5, 1), (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3))]
)
def test_cached_sampler_equals_the_definition(make, fix):
  decoder, params, _ = make(fix)
  z = jax.random.normal(jax.random.key(3), (4, LATENT_DIM))
  rngs = jax.random.split(jax.random.key(4), 4)
  x = jax.jit(jax.vmap(decoder.sample, (None, 0, 0)))(params, z, rngs)
  naive = jax.vmap(lambda z, rng: pixelcnn.sample_naively(decoder, params, z, rng))
  np.testing.assert_array_equal(x, jax.jit(naive)(z, rngs))
  assert set(np.unique(x)) == {0, 1}


@both_shifts
def test_cached_logits_equal_a_full_pass(fix):
  """At full size; that x = [u < sigmoid(logits(x))] in raster order is the definition again."""
  decoder = pixelcnn.make(LATENT_DIM, fix_vertical_shift=fix)
  params, rng, z = draw(decoder), jax.random.key(2), jnp.array([0.5, -1.2, 0.8])
  maps = jnp.asarray(maps_of(params, z, 28, 28))
  x, logits = jax.jit(lambda maps: pixelcnn.sample_with_logits(params, maps, rng, fix))(maps)
  expected = jax.jit(decoder.logits)(params, x, z)
  assert_within_ulps(logits, expected, 32)
  uniforms, probabilities = jax.random.uniform(rng, x.shape), jax.nn.sigmoid(expected)
  assert np.abs(uniforms - probabilities).min() > 2e-5  # no coin falls within rounding of its edge
  np.testing.assert_array_equal(x, uniforms < probabilities)


@both_shifts
def test_likelihood_is_normalized_and_samples_follow_it(fix):
  decoder, params, z = small(fix, (2, 2, 1))
  images = jnp.array(list(itertools.product([0.0, 1.0], repeat=4))).reshape(16, 2, 2, 1)
  score = lambda x: bernoulli_log_likelihood(decoder.logits(params, x, z), x)
  probabilities = np.exp(jax.jit(jax.vmap(score))(images))
  assert probabilities.sum() == pytest.approx(1, abs=1e-5)
  rngs = jax.random.split(jax.random.key(5), 20_000)
  x = jax.jit(jax.vmap(decoder.sample, (None, None, 0)))(params, z, rngs)
  index = np.asarray(x).reshape(-1, 4) @ [8, 4, 2, 1]
  frequencies = np.bincount(index.astype(int), minlength=16) / len(rngs)
  errors = np.sqrt(probabilities * (1 - probabilities) / len(rngs))
  assert np.all(np.abs(frequencies - probabilities) < 5 * errors)


@pytest.mark.parametrize(('bias', 'probability'), [(0.0, 0.5), (100.0, 1 - 1e-5)])
def test_pixels_of_constant_logits(bias, probability):
  """Without weights pixels are coins, and even the surest of coins falls wrong once in 1e5."""
  decoder = pixelcnn.make(1, (32, 32, 1), 1, (3,), 1)
  params = draw(decoder, scale=0.0)
  params['logits']['bias'] += bias
  rngs = jax.random.split(jax.random.key(1), 3000)
  x = jax.jit(jax.vmap(decoder.sample, (None, None, 0)))(params, jnp.ones(1), rngs)
  error = np.sqrt(probability * (1 - probability) / x.size)
  assert np.asarray(x).mean(dtype=np.float64) == pytest.approx(probability, abs=5 * error)


def test_gradients_in_a_scan_equal_those_outside(x64):
  decoder, params, _ = small(False, kernel_sizes=(3, 3))
  z = jax.random.normal(jax.random.key(3), (2, 3, LATENT_DIM))
  x = jax.random.bernoulli(jax.random.key(4), shape=(2, 3, *SHAPE)).astype(float)

  def loss(params, x, z):
    logits = jax.vmap(decoder.logits, (None, 0, 0))(params, x, z)
    return -jax.vmap(bernoulli_log_likelihood)(logits, x).mean()

  gradient = jax.grad(loss)
  inside = jax.jit(lambda: jax.lax.scan(lambda _, xz: (None, gradient(params, *xz)), None, (x, z)))
  for step in range(2):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a[step], b, rtol=1e-10, atol=1e-12),
      inside()[1],
      jax.jit(gradient)(params, x[step], z[step]),
    )


def test_models_side_by_side_equal_models_alone():
  decoder, _, z = small(False)
  params = jax.tree.map(lambda *a: jnp.stack(a), draw(decoder), draw(decoder, seed=1))
  rng = jax.random.key(6)
  x = jax.jit(jax.vmap(decoder.sample, (0, None, None)))(params, z, rng)
  logits = jax.jit(jax.vmap(decoder.logits, (0, 0, None)))(params, x, z)
  sample_alone, logits_alone = jax.jit(decoder.sample), jax.jit(decoder.logits)
  for m in range(2):
    alone = jax.tree.map(lambda a: a[m], params)
    np.testing.assert_array_equal(x[m], sample_alone(alone, z, rng))
    assert_within_ulps(logits[m], logits_alone(alone, x[m], z), 32)


def test_even_kernels_are_refused():
  with pytest.raises(ValueError, match=r'kernel sizes must be odd, not \(9, 4\)'):
    pixelcnn.make(2, kernel_sizes=(9, 4))
