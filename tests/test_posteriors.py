"""Families of posteriors: change of variables by autodiff, densities by quadrature, numpyro, KLs.

A new family needs one line in SMALL; all else finds it by name.
"""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.scipy.stats import norm
from numpyro.distributions.flows import InverseAutoregressiveTransform

from iavae import bounds, flows, masked, posteriors
from iavae.gradients import lower_precision
from iavae.models import linear_gaussian
from iavae.posteriors import iaf
from iavae.posteriors.full_covariance import strictly_lower
from iavae.posteriors.gaussian import DiagonalGaussian, diagonal_gaussian
from iavae.refine import Refinement, refine
from iavae.rng import AUXILIARY

NETWORK = {'context_dim': 2, 'hidden': 6}
SMALL = {
  'autoregressive': NETWORK,
  'auxiliary': NETWORK | {'num_steps': 2},
  'full_covariance': {},
  'gaussian': {},
  'iaf': NETWORK | {'num_steps': 2},
  'maf': NETWORK | {'num_steps': 2},
  'planar': {'num_steps': 3},
  'radial': {'num_steps': 3},
  'realnvp': NETWORK | {'num_steps': 3},
}
NAMES = posteriors.names()
ANALYTIC = ['full_covariance', 'gaussian']  # the KL to N(0, I)
EVALUATE = [*ANALYTIC, 'autoregressive', 'maf', 'realnvp']  # any z
EXACT = ['full_covariance', 'autoregressive', 'maf', 'iaf']  # for a Gaussian target
families = pytest.mark.parametrize('name', NAMES)
evaluating = pytest.mark.parametrize('name', EVALUATE)


def shapes_of(family, latent_dim, dtype=None):
  heads = family.heads(latent_dim)
  return {
    name: jax.ShapeDtypeStruct((n,), dtype or jnp.zeros(0).dtype) for name, n in heads.items()
  }


def start(name, latent_dim=3, options=None):
  """(family, params as they start, heads that are zero but for the mean-field Gaussian's)."""
  family = posteriors.make(name, **(SMALL[name] if options is None else options))
  heads = {head: jnp.zeros(size) for head, size in family.heads(latent_dim).items()}
  shapes = jax.eval_shape(lambda: heads)
  return family, family.init(jax.random.key(0), shapes), heads


def example(name, latent_dim=3, seed=0, options=None, scale=0.4):
  """A posterior whose every parameter is away from where it starts."""
  family, params, heads = start(name, latent_dim, options)
  rng = np.random.default_rng(seed)
  away = lambda a: a + jnp.asarray(scale * rng.standard_normal(a.shape), a.dtype)
  return family.posterior(jax.tree.map(away, params), jax.tree.map(away, heads))


def draws(q, rngs):
  return jax.jit(jax.vmap(lambda rng: q.sample_and_log_prob(rng)))(rngs)


def mean_and_error(values):
  values = np.asarray(values, np.float64)
  return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def noise_of(name, rng, latent_dim=3):
  """What a draw with that key is made of."""
  rngs = [rng, jax.random.fold_in(rng, AUXILIARY)] if name == 'auxiliary' else [rng]
  noise = jnp.concatenate([jax.random.normal(rng, (latent_dim,)) for rng in rngs])
  return noise.reshape(2, -1) if name == 'auxiliary' else noise


def transform(q, noise):
  if isinstance(q, DiagonalGaussian):
    return q.mean + jnp.exp(q.log_scale) * noise
  return q.transform(noise)[0]


@families
def test_log_density_is_the_change_of_variables(name, x64):
  q = example(name)

  @jax.jit
  def both(rng):
    noise = noise_of(name, rng)
    out, log_prob = transform(q, noise), q.sample_and_log_prob(rng)
    jacobian = jax.jacobian(lambda flat: transform(q, flat.reshape(noise.shape)).ravel())
    expected = jnp.sum(norm.logpdf(noise)) - jnp.linalg.slogdet(jacobian(noise.ravel()))[1]
    if name == 'auxiliary':
      out, expected = out[0], expected - q.log_reverse(*out)
    return log_prob, (out, expected)

  for seed in range(3):
    found, expected = both(jax.random.key(seed))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    assert found[1] == pytest.approx(float(expected[1]), abs=1e-9)


@families
def test_starts_as_the_mean_field_gaussian(name, x64):
  family, params, heads = start(name)
  heads |= {'mean': jnp.array([0.3, -1.0, 2.0]), 'log_var': jnp.array([-3.0, 0.0, 0.5])}
  rngs = jax.random.split(jax.random.key(0), 10)
  q, expected = family.posterior(params, heads), diagonal_gaussian(heads)
  for found, value in zip(draws(q, rngs), draws(expected, rngs), strict=True):
    np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-12)
  if hasattr(q, 'standard_normal_kl'):
    assert q.standard_normal_kl() == pytest.approx(float(expected.standard_normal_kl()), rel=1e-12)


@evaluating
def test_any_z_has_a_density(name, x64):
  q = example(name)
  z, log_prob = draws(q, jax.random.split(jax.random.key(0), 20))
  np.testing.assert_allclose(jax.jit(jax.vmap(q.log_prob))(z), log_prob, rtol=1e-11)
  if hasattr(q, 'inverse'):
    noise = noise_of(name, jax.random.key(1))
    there, log_det = q.transform(noise)
    back, same = q.inverse(there)
    np.testing.assert_allclose(back, noise, rtol=1e-11)
    assert same == pytest.approx(float(log_det), abs=1e-11)


@evaluating
@pytest.mark.parametrize('log_scale', [-50.0, 50.0])
def test_very_narrow_and_very_wide_posteriors(name, log_scale):
  """Finite in float32, and the bound has the value of the draw, whatever its gradient's path."""
  family, params, heads = start(name)
  q = family.posterior(params, heads | {'log_var': jnp.full(3, 2 * log_scale)})
  z, log_prob = q.sample_and_log_prob(jax.random.key(0))
  assert q.log_prob(z) == pytest.approx(float(log_prob), rel=1e-5)
  model = model_of(lambda z: jnp.zeros(()))
  kl = lambda q: bounds.elbo_terms(model, None, q, None, jax.random.key(0))[1]
  value, slope = jax.value_and_grad(kl)(q)
  assert value == pytest.approx(float(log_prob), rel=1e-6)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize('name', ['maf', 'realnvp'])
def test_the_bound_has_the_value_of_the_draw(name):
  """Where the inverse of the flow is no better than its rounding."""
  family, params, heads = start(name)
  params = jax.tree.map(lambda a: a + 0.3 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)
  q = family.posterior(params, heads | {'mean': jnp.ones(3), 'log_var': jnp.full(3, -100.0)})
  rng = jax.random.key(0)
  z, log_prob = q.sample_and_log_prob(rng)
  assert abs(q.log_prob(z) - log_prob) > 1e9
  kl = bounds.elbo_terms(model_of(lambda z: jnp.zeros(())), None, q, None, rng)[1]
  assert kl == pytest.approx(float(log_prob), rel=1e-6)


@evaluating
def test_density_integrates_to_one(name, x64):
  q = example(name, latent_dim=2)
  axis = jnp.arange(-24, 24, 0.1)  # networks that are large make tails that are heavy
  grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
  log_prob = jax.jit(lambda grid: jax.lax.map(q.log_prob, grid, batch_size=10_000))(grid)
  assert 0.1**2 * np.exp(log_prob).sum() == pytest.approx(1, abs=1e-4)


@families
def test_has_what_it_can_evaluate_and_nothing_else(name):
  q = example(name)
  assert hasattr(q, 'log_prob') == (name in EVALUATE)
  assert hasattr(q, 'standard_normal_kl') == (name in ANALYTIC)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(q))


@families
def test_importance_weights_have_mean_one(name):
  """E_q p(z) / q(z) = 1 for a density p that q covers: what makes the bounds lower bounds."""
  q = example(name, scale=0.15)
  z, log_prob = draws(q, jax.random.split(jax.random.key(2), 40_000))
  mean, error = mean_and_error(np.exp(norm.logpdf(z, 0, 0.5).sum(1) - log_prob))
  assert mean == pytest.approx(1, abs=5 * error)
  assert error < 0.05


@pytest.mark.parametrize('name', ANALYTIC)
def test_exact_kl_is_the_mean_of_the_estimates(name):
  q, p = example(name), example(name, seed=1)
  z, log_prob = draws(q, jax.random.split(jax.random.key(3), 40_000))
  for exact, target in (
    (q.standard_normal_kl(), lambda z: jnp.sum(norm.logpdf(z))), (q.kl(p), p.log_prob)
  ):  # fmt: skip
    mean, error = mean_and_error(log_prob - jax.vmap(target)(z))
    assert exact == pytest.approx(mean, abs=5 * error)
    assert error < 0.02


def test_auxiliary_bound_is_from_above():
  """E log q(z) is less, by a KL; the histogram of z tells it, and errs to more entropy."""
  q = example('auxiliary', latent_dim=1)
  z, above = draws(q, jax.random.split(jax.random.key(4), 20_000))
  edges = np.linspace(*np.quantile(z, [0.0, 1.0]), 60)
  mass = np.histogram(z, edges)[0] / len(z)
  entropy = -np.sum(mass * np.log(np.maximum(mass, 1e-12) / np.diff(edges)))
  mean, error = mean_and_error(above)
  assert mean > -entropy + 5 * error


def model_of(log_density):
  """p(x, z) = p(z), with a normalized p: the evidence is 0 nats and the posterior is p."""
  return linear_gaussian.make(1, 1)._replace(
    log_prior=lambda params, z: log_density(z),
    log_likelihood=lambda params, x, z: jnp.zeros(()),
    standard_normal_prior=False,
  )


@evaluating
def test_path_derivative(name, x64):
  """The mean gradient is that with the score, and at the optimum every single one is zero."""
  q, target = example(name), example(name, seed=1)
  model = model_of(target.log_prob)

  def with_score(q, rng):
    return bounds.log_weight(model, None, q, None, rng)

  def path(q, rng):
    log_likelihood, kl = bounds.elbo_terms(model, None, q, None, rng)
    return log_likelihood - kl

  rngs = jax.random.split(jax.random.key(5), 4000)
  gradients = lambda f, q: jax.jit(jax.vmap(jax.grad(f), in_axes=(None, 0)))(q, rngs)
  difference = jax.tree.map(jnp.subtract, gradients(path, q), gradients(with_score, q))
  for values in jax.tree.leaves(difference):
    mean, error = mean_and_error(values)
    assert (abs(mean) <= 5 * error + 1e-12).all()
  for values in jax.tree.leaves(gradients(path, target)):
    np.testing.assert_allclose(values, 0, atol=1e-9)
  weights = jax.jit(jax.vmap(lambda rng: with_score(target, rng)))(rngs)
  np.testing.assert_allclose(weights, 0, atol=1e-9)


def banana(z):
  """A density, not normalized, in which all entries of z depend on each other."""
  return -0.5 * jnp.sum((z - 0.5) ** 2) - 0.2 * jnp.sum((z[1:] - z[:-1] ** 2) ** 2)


@families
def test_gradients_are_finite_at_the_start_and_soon_reach_everything(name):
  family, params, heads = start(name)
  model = model_of(banana)

  @jax.jit
  def gradient(variables):
    q = lambda variables: family.posterior(*variables)
    bound = lambda variables: bounds.elbo(model, None, q(variables), None, jax.random.key(6), 8)
    return jax.grad(bound)(variables)

  variables = (params, heads)
  for _ in range(3):
    slope = gradient(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    variables = jax.tree.map(lambda a, g: a + 0.1 * g, variables, slope)
  reached = jax.tree.map(lambda leaf: bool((leaf != 0).any()), slope)
  assert all(jax.tree.leaves(reached)), reached


@families
def test_jit_is_eager_and_vmap_is_a_loop(name, x64):
  examples = [example(name, seed=seed) for seed in range(3)]
  rngs = jax.random.split(jax.random.key(7), 3)
  eager = [q.sample_and_log_prob(rng) for q, rng in zip(examples, rngs, strict=True)]
  sample = lambda q, rng: q.sample_and_log_prob(rng)
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *examples)
  together = jax.jit(jax.vmap(sample))(stacked, rngs)
  for found, expected in zip(together, zip(*eager, strict=True), strict=True):
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-11)


@families
def test_one_latent(name):
  """Halves and rows below a diagonal are empty then."""
  q = example(name, latent_dim=1)
  z, log_prob = q.sample_and_log_prob(jax.random.key(0))
  assert z.shape == (1,) and log_prob.shape == () and np.isfinite(log_prob)


@evaluating
def test_kernels_of_low_precision_keep_the_density(name):
  family, params, heads = start(name)
  params = jax.tree.map(lambda a: a + 0.3 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)
  q = family.posterior(lower_precision(params, 'bfloat16'), heads)
  z, log_prob = q.sample_and_log_prob(jax.random.key(0))
  assert q.log_prob(z) == pytest.approx(float(log_prob), abs=1e-4)


def test_full_covariance_equals_numpyro(x64):
  q, p = example('full_covariance', 4), example('full_covariance', 4, seed=1)
  z, log_prob = q.sample_and_log_prob(jax.random.key(0))
  factor = lambda q: jnp.exp(q.log_scale)[:, None] * q.factor()
  oracle, other = (dist.MultivariateNormal(q.mean, scale_tril=factor(q)) for q in (q, p))
  standard = dist.MultivariateNormal(jnp.zeros(4), jnp.eye(4))
  assert log_prob == pytest.approx(float(oracle.log_prob(z)), abs=1e-10)
  assert q.log_prob(p.mean) == pytest.approx(float(oracle.log_prob(p.mean)), abs=1e-10)
  divergence = lambda p: float(dist.kl_divergence(oracle, p))
  assert q.standard_normal_kl() == pytest.approx(divergence(standard), abs=1e-10)
  assert q.kl(p) == pytest.approx(divergence(other), abs=1e-10)


@pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
def test_every_entry_lies_below_the_diagonal_once(size):
  num = size * (size - 1) // 2
  matrix = np.asarray(strictly_lower(jnp.arange(1.0, num + 1), size))
  assert sorted(matrix[np.tril_indices(size, -1)]) == list(range(1, num + 1))
  np.testing.assert_array_equal(np.triu(matrix), 0)


def test_masked_network_equals_numpyros_flow(x64):
  """Its flow maps z to u as `parallel`; its inverse, a whole pass an entry, is `sequential`."""
  q = example('maf', 4)
  step, context, u = q.flow['step_00'], q.context, jnp.array([0.5, -1.0, 2.0, 0.1])

  def network(z):
    shift, raw_scale = masked.outputs(step, z, context)
    log_scale = flows.bounded(raw_scale)
    return -shift * jnp.exp(-log_scale), -log_scale

  flow = InverseAutoregressiveTransform(network)
  z, log_det = masked.sequential(step, u, context)
  np.testing.assert_allclose(z, flow.inv(u), rtol=1e-12)
  back, same = masked.parallel(step, z, context)
  np.testing.assert_allclose(back, flow(z), rtol=1e-12)
  for found in (log_det, same):
    assert found == pytest.approx(-float(flow.log_abs_det_jacobian(z, u)), abs=1e-12)


def test_iaf_equals_numpyro(x64):
  q = example('iaf', 4)
  noise = jnp.array([0.5, -1.0, 2.0, 0.1])
  z, expected = q.base.mean + jnp.exp(q.base.log_scale) * noise, jnp.sum(q.base.log_scale)

  def network(step, z):
    shift, raw_gate = masked.outputs(step, z, q.context)
    gate = jax.nn.sigmoid(raw_gate + iaf.GATE_BIAS)
    return (1 - gate) * shift, jnp.log(gate / jax.nn.sigmoid(iaf.GATE_BIAS))

  for t, step in enumerate(('step_00', 'step_01')):
    flow = InverseAutoregressiveTransform(functools.partial(network, q.flow[step]))
    z = z[::-1] if t else z
    expected += flow.log_abs_det_jacobian(z, None)
    z = flow(z)[::-1] if t else flow(z)
  found, log_det = q.transform(noise)
  np.testing.assert_allclose(found, z, rtol=1e-12)
  assert log_det == pytest.approx(float(expected), abs=1e-12)


def test_planar_and_radial_are_the_papers_formulas(x64):
  z = noise = np.array([0.5, -1.0, 2.0])
  q = jax.tree.map(np.asarray, example('planar'))
  z = q.base.mean + np.exp(q.base.log_scale) * noise
  for u, w, b in zip(q.u, q.w, q.b, strict=True):
    inner = np.log1p(np.exp(w @ u) * (np.e - 1)) - 1
    z = z + (u + (inner - w @ u) * w / (w @ w)) * np.tanh(w @ z + b)
  np.testing.assert_allclose(q.transform(noise)[0], z, rtol=1e-12)
  q = jax.tree.map(np.asarray, example('radial'))
  z = q.base.mean + np.exp(q.base.log_scale) * noise
  for center, raw_a, raw_beta in zip(q.reference, q.raw_a, q.raw_beta, strict=True):
    a = np.log1p(np.exp(raw_a))
    beta = np.log1p(np.exp(raw_a + raw_beta)) - a
    z = z + beta / (a + np.linalg.norm(z - center)) * (z - center)
  np.testing.assert_allclose(q.transform(noise)[0], z, rtol=1e-12)


def test_radial_maps_start_around_where_z_is(x64):
  """r ~ N(0, I) in units of the base, another one a step; a zero distance has a gradient."""
  family, params, heads = start('radial')
  heads |= {'mean': jnp.array([1.0, -2.0, 3.0]), 'log_var': jnp.array([0.4, -0.2, 0.0])}
  offset = jnp.arange(9.0).reshape(3, 3)
  q = family.posterior(params, heads | {'reference': offset.ravel()})
  r = params['flow']['reference']
  expected = heads['mean'] + jnp.exp(heads['log_var'] / 2) * r + offset
  np.testing.assert_allclose(q.reference, expected, rtol=1e-12)
  assert len(np.unique(r)) == r.size
  still = q._replace(reference=jnp.tile(q.base.mean, (3, 1)), raw_beta=jnp.ones(3))
  slope = jax.grad(lambda q: jnp.sum(q.transform(jnp.zeros(3))[0]))(still)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
  flat = example('planar')._replace(w=jnp.zeros((3, 3)))
  slope = jax.grad(lambda q: jnp.sum(q.transform(jnp.ones(3))[0]))(flat)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_scales_of_a_coupling_are_bounded():
  network = {
    'hidden': {'kernel': jnp.ones((4, 5)), 'bias': jnp.zeros(5)},
    'output': {'kernel': jnp.full((5, 4), 1e3), 'bias': jnp.array([0.0, 0.0, 0.0, -1e6])},
  }
  shift, log_scale = flows.affine(network, jnp.ones(2), jnp.ones(2))
  np.testing.assert_allclose(shift, 2e4, rtol=1e-5)
  np.testing.assert_allclose(log_scale, [flows.MAX_LOG_SCALE, -flows.MAX_LOG_SCALE], rtol=1e-5)
  assert flows.bounded(jnp.asarray(0.01)) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize('name', ['realnvp', 'maf', 'iaf'])
def test_every_second_step_moves_what_the_first_reads(name, x64):
  """One step leaves half of the Jacobian's entries at zero, two steps none."""
  jacobians = []
  for num_steps in (1, 2):
    q = example(name, 4, options=SMALL[name] | {'num_steps': num_steps})
    jacobian = jax.jacobian(lambda noise, q=q: q.transform(noise)[0])(jnp.ones(4))
    jacobians.append(np.asarray(jacobian != 0))
  first = np.eye(4, dtype=bool)
  first[2:, :2] = True
  assert (jacobians[0] == (first if name == 'realnvp' else np.tri(4, dtype=bool))).all()
  if name == 'realnvp':  # the second half among its own entries stays apart
    assert jacobians[1][:2].all() and (jacobians[1][2:] == first[2:]).all()
  else:
    assert jacobians[1].all()


@pytest.mark.parametrize(('hidden', 'direct'), [(2, True), (9, True), (4, False), (9, False)])
def test_masked_network_reads_what_comes_before(hidden, direct, x64):
  """All of it even through the hidden layer alone, if that has a unit for every degree."""
  q = example('maf', 4, options={'num_steps': 1, 'context_dim': 2, 'hidden': hidden})
  z, step = jnp.array([0.5, -1.0, 2.0, 0.1]), q.flow['step_00']
  if not direct:
    step['output']['kernel'] = step['output']['kernel'].at[hidden:].set(0)
  of_z, of_context = (
    jax.jacobian(masked.outputs, argument)(step, z, q.context) for argument in (1, 2)
  )
  for jacobian in of_z:
    assert (np.asarray(jacobian != 0) == np.tri(4, k=-1, dtype=bool)).all()
  assert all((np.asarray(jacobian) != 0).all() for jacobian in of_context)


@pytest.mark.parametrize('name', ['autoregressive', 'maf', 'iaf'])
def test_jacobian_is_triangular(name, x64):
  one = {} if name == 'autoregressive' else {'num_steps': 1}
  q = example(name, 4, options=NETWORK | one)
  jacobian = jax.jacobian(lambda noise: q.transform(noise)[0])(noise_of(name, jax.random.key(0), 4))
  assert (np.asarray(jacobian != 0) == np.tri(4, dtype=bool)).all()


@families
def test_defaults_are_those_of_make(name):
  module = importlib.import_module(f'iavae.posteriors.{name}')
  parameters = inspect.signature(module.make).parameters.values()
  assert {p.name: p.default for p in parameters} == module.DEFAULTS
  assert set(SMALL[name]) == set(module.DEFAULTS)


@families
def test_bad_hyperparameters_are_one_line(name):
  for option, value in SMALL[name].items():
    for bad in (0, -1, 1.5, True, 'many'):
      with pytest.raises(ValueError, match=f'^{option}={bad!r} is not a whole number above 0$'):
        posteriors.make(name, **{option: bad})
    assert value > 0
  with pytest.raises(ValueError, match=f"^the posterior family '{name}' has no depth; it has "):
    posteriors.make(name, depth=2)


NOISE = 0.5
MODEL = linear_gaussian.make(data_dim=4, latent_dim=2, noise_scale=NOISE)
WEIGHT = np.array([[1.0, 0.9], [0.5, 0.6], [-0.4, -0.1], [0.2, 0.3]])  # columns far from orthogonal
PRECISION = np.eye(2) + WEIGHT.T @ WEIGHT / NOISE**2
# Of the best mean-field Gaussian: KL = 1/2 log(prod_i P_ii / det P)
MEAN_FIELD_GAP = 0.5 * np.log(np.prod(np.diag(PRECISION)) / np.linalg.det(PRECISION))


def refined_gap(name, options=None, num_runs=1):
  """log p(x) - ELBO in nats, mean and standard error, of the start refined on one example.

  Of several runs it is that of the median: some never leave the saddle point where a flow starts,
  and which ones rounding decides.
  """
  family, params, heads = start(name, 2, options)
  model, x = MODEL._replace(standard_normal_prior=False), jnp.array([1.0, -0.5, 0.3, 0.8])
  parameters = {'weight': jnp.asarray(WEIGHT, jnp.float32), 'bias': jnp.zeros(4)}
  refinement = Refinement(2000, optax.adam(optax.cosine_decay_schedule(0.03, 2000)))

  @jax.jit
  @jax.vmap
  def gaps(rng):
    q = refine(refinement, model, parameters, family.posterior(params, heads), x, rng)
    weight = lambda rng: bounds.log_weight(model, parameters, q, x, rng)
    weights = jax.vmap(weight)(jax.random.split(rng, 4000))
    return linear_gaussian.log_evidence(parameters, x, NOISE) - weights

  found = gaps(jax.random.split(jax.random.key(8), num_runs))
  return sorted(map(mean_and_error, found), key=lambda run: run[0])[num_runs // 2]


@families
def test_refined_posterior_meets_a_correlated_gaussian(name):
  gap, error = refined_gap(name, num_runs=9 if name == 'auxiliary' else 1)
  assert gap > -5 * error
  if name in EXACT:
    assert gap < 0.02
  elif name == 'gaussian':
    assert gap == pytest.approx(MEAN_FIELD_GAP, abs=5 * error + 0.01)
  else:
    assert gap < 0.8 * MEAN_FIELD_GAP
