"""The synthetic model's exact quantities against brute force in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import oracle
from iavae.experiments import synthetic as synthetic_protocol
from iavae.experiments import synthetic_rows
from iavae.models import synthetic
from iavae.posteriors.gaussian import DiagonalGaussian

NOISE = 0.1
# Ordinary examples, one near the fold z = (-1, -1), one far out, one at odds with the model
EXAMPLES = [
  (0.3, -0.4, -0.2),
  (1.5, 1.2, 4.6),
  (-1.02, -0.9, -1.1),
  (2.8, -2.5, -6.5),
  (0.5, 0.5, 2.0),
]


@pytest.fixture(params=EXAMPLES, ids=str)
def x(request, x64):
  return jnp.array(request.param, jnp.float64)


def test_log_evidence_equals_brute_force(x):
  z1, z2, log_joint = oracle.joint_grid(np.asarray(x), NOISE)
  expected = oracle.log_integral(log_joint, z1, z2)
  assert synthetic.log_evidence(x, NOISE) == pytest.approx(expected, abs=1e-6)


def test_log_joint_equals_definition(x):
  z1, z2, log_joint = oracle.joint_grid(np.asarray(x), NOISE, num_nodes=11)
  model = synthetic.make(NOISE)
  z = jnp.array([z1[3], z2[8]])
  assert synthetic.log_joint_density(x, z, NOISE) == pytest.approx(log_joint[3, 8], abs=1e-9)
  total = model.log_prior({}, z) + model.log_likelihood({}, x, z)
  assert total == pytest.approx(log_joint[3, 8], abs=1e-9)


def test_elbo_equals_quadrature(x):
  mean, log_scale = np.array([0.4, -0.7]) + np.asarray(x)[:2], np.array([-1.2, -2.9])
  q = DiagonalGaussian(jnp.array(mean), jnp.array(log_scale))
  expected = oracle.expected_elbo(mean, log_scale, np.asarray(x), NOISE)
  assert synthetic.elbo(q, x, NOISE) == pytest.approx(expected, abs=1e-8)


def test_paper_convention_drops_constant_and_sampling(x):
  q = DiagonalGaussian(x[:2] + 0.1, jnp.array([-2.0, -40.0]))
  narrow = q._replace(log_scale=jnp.array([-40.0, -40.0]))
  constant = 3 * np.log(NOISE * np.sqrt(2 * np.pi))
  # where q has no width, decoding the mean is the expectation, and only the constant differs
  difference = synthetic.elbo_paper(narrow, x, NOISE) - synthetic.elbo(narrow, x, NOISE)
  assert difference == pytest.approx(constant, abs=1e-9)
  error = np.sum((np.asarray(x) - np.asarray(synthetic.mean_function(q.mean))) ** 2) / (
    2 * NOISE**2
  )
  assert synthetic.elbo_paper(q, x, NOISE) == pytest.approx(-error - q.standard_normal_kl())


def test_optimal_posterior_is_stationary_and_best(x):
  optimum = synthetic.optimal_posterior(x, NOISE)
  gradient = jax.grad(synthetic.elbo)(optimum, x, NOISE)
  np.testing.assert_allclose(np.concatenate(gradient), 0, atol=1e-5)
  best = synthetic.elbo(optimum, x, NOISE)
  assert best <= synthetic.log_evidence(x, NOISE)
  offsets = 0.3 * jax.random.normal(jax.random.key(0), (500, 4), jnp.float64)
  others = DiagonalGaussian(optimum.mean + offsets[:, :2], optimum.log_scale + offsets[:, 2:])
  assert np.all(jax.vmap(synthetic.elbo, in_axes=(0, None, None))(others, x, NOISE) < best)


def test_optimal_posterior_equals_numerical_search(x):
  """Newton's method on the closed-form ELBO from coordinate ascent's neighborhood agrees."""
  optimum = synthetic.optimal_posterior(x, NOISE)
  flat = jnp.concatenate(optimum) + 0.02

  def objective(flat):
    return synthetic.elbo(DiagonalGaussian(flat[:2], flat[2:]), x, NOISE)

  for _ in range(20):
    flat = flat - jnp.linalg.solve(jax.hessian(objective)(flat), jax.grad(objective)(flat))
  assert objective(flat) == pytest.approx(float(synthetic.elbo(optimum, x, NOISE)), abs=1e-9)


def test_map_and_laplace_equal_brute_force(x):
  z_map = synthetic.map_estimate(x, NOISE)
  z1, z2, log_joint = oracle.joint_grid(np.asarray(x), NOISE)
  i, j = np.unravel_index(log_joint.argmax(), log_joint.shape)
  np.testing.assert_allclose(z_map, [z1[i], z2[j]], atol=z1[1] - z1[0])
  assert synthetic.log_joint_density(x, z_map, NOISE) >= log_joint.max()
  covariance = synthetic.laplace_covariance(x, z_map, NOISE)
  h = 1e-4
  value = lambda a, b: float(synthetic.log_joint_density(x, z_map + jnp.array([a, b]), NOISE))
  mixed = (value(h, h) - value(h, -h) - value(-h, h) + value(-h, -h)) / 4
  first, second = (value(h, 0) + value(-h, 0), value(0, h) + value(0, -h))
  hessian = np.array([[first - 2 * value(0, 0), mixed], [mixed, second - 2 * value(0, 0)]]) / h**2
  np.testing.assert_allclose(covariance @ -hessian, np.eye(2), atol=1e-4)


def test_samples_have_the_models_moments():
  model = synthetic.make(NOISE)
  rngs = jax.random.split(jax.random.key(0), 20_000)
  z = jax.vmap(model.sample_prior, in_axes=(None, 0))({}, rngs)
  x = jax.vmap(model.sample, in_axes=(None, 0, 0))(
    {}, z, jax.random.split(jax.random.key(1), 20_000)
  )
  noise = np.asarray(x - jax.vmap(model.decode, in_axes=(None, 0))({}, z))
  # 5 standard errors of a standard deviation: s / sqrt(2 n)
  np.testing.assert_allclose(noise.std(axis=0), NOISE, atol=5 * NOISE / np.sqrt(40_000))
  np.testing.assert_allclose(np.asarray(z).mean(axis=0), 0, atol=5 / np.sqrt(20_000))
  # E x_3 = E (z1 + z2 + z1 z2) = 0, Var = 3 + noise^2
  assert np.asarray(x)[:, 2].mean() == pytest.approx(0, abs=5 * np.sqrt(3.01 / 20_000))


def test_float32_is_close_to_float64(x):
  single = jnp.asarray(x, jnp.float32)
  assert synthetic.log_evidence(single, NOISE) == pytest.approx(
    float(synthetic.log_evidence(x, NOISE)), abs=2e-3
  )


def test_gradients(x64):
  x = jnp.array(EXAMPLES[0], jnp.float64)
  q = DiagonalGaussian(x[:2], jnp.array([-2.0, -1.5]))
  check_grads(lambda q: synthetic.elbo(q, x, NOISE), (q,), order=2, modes=['rev'])


def test_another_method_adapts_as_its_row_does():
  """configs/synthetic.py:<method> is the row of --config.experiment=synthetic_methods."""
  from configs.synthetic import get_config

  config = get_config('denoising')
  with config.unlocked():
    config.num_bases, config.num_seeds = 2, 3
  _, x = synthetic_protocol.make_data(0, 8, 0.1)
  base = synthetic_protocol.pretrain_stage(config, x)
  stage = synthetic_protocol.adapt_stage(config, x, base.params)
  encoders, own = (s.params['inference']['encoder'] for s in (base, stage))
  for leaf, found in zip(jax.tree.leaves(encoders), jax.tree.leaves(own), strict=True):
    np.testing.assert_array_equal(found, np.repeat(leaf, 3, axis=0))
  params = jax.tree.map(lambda a: a[0], stage.params)
  row = synthetic_rows.make_method(config, 'denoising')[0]
  found, expected = (m.loss(params, x[0], jax.random.key(0))[0] for m in (stage.method, row))
  assert found == expected
  assert synthetic_rows.decoder_gradients('iterative') == 5
  assert [synthetic_rows.decoder_gradients(n) for n in ('denoising', 'gradient', 'maf')] == [
    0,
    1,
    0,
  ]


def test_the_base_is_trained_along_where_the_config_says_so():
  from configs.synthetic import get_config

  config = get_config()
  _, x = synthetic_protocol.make_data(0, 8, 0.1)
  bases = synthetic_protocol.pretrain_stage(config, x).params
  assert synthetic_protocol.adapt_stage(config, x, bases).frozen == ('inference/encoder',)
  config.train_base = True
  assert synthetic_protocol.adapt_stage(config, x, bases).frozen == ()
