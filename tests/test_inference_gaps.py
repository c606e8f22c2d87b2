"""Gap reports of models given as plain functions, where every gap is known."""

import html
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from flax import linen, nnx
from jax.experimental import sparse
from numpyro import distributions

from iavae import gap_checks, gap_inputs, gap_page, gaps, report
from iavae.annealing import Annealing
from iavae.gap_parts import Problem, Protocol
from iavae.inference import amortized, instance_adaptive
from iavae.models import linear_gaussian, synthetic
from iavae.networks import mlp
from iavae.optimum import Search
from iavae.posteriors import full_covariance
from launcher import ROOT

# A VAE of a few jax.numpy functions, with nothing of the package in it: x = W z + b + noise
NOISE = 0.5
W = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) / np.sqrt(6)
B = np.linspace(-1, 1, 6).astype(np.float32)
X = (np.random.default_rng(1).normal(size=(40, 3)) @ W.T + B).astype(np.float32)
X += NOISE * np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
PRECISION = np.eye(3) + W.T.astype(np.float64) @ W / NOISE**2
MEANS = (X - B) @ W / NOISE**2 @ np.linalg.inv(PRECISION)
SCALES = np.diagonal(PRECISION) ** -0.5
COVARIANCE = W.astype(np.float64) @ W.T + NOISE**2 * np.eye(6)

QUICK = Protocol(
  num_samples=2000,
  search=Search(num_steps=600, num_samples=8, learning_rate=3e-2, num_averaged=100),
  flow_search=Search(num_steps=600, num_samples=8, num_averaged=100, max_norm=10.0),
  flow_hidden=8,
  annealing=Annealing(num_chains=8, num_temperatures=100, num_leapfrog=5),
  num_annealed=40,
  num_doubled=20,  # a chunk: the program of the search itself
  num_oracle=0,
  at_once=20,
)
PLAIN = QUICK._replace(flow_search=Search(num_steps=0), num_annealed=0, num_doubled=0)


def log_joint(x, z):
  normal = lambda u: -0.5 * jnp.sum(u**2) - 0.5 * u.size * jnp.log(2 * jnp.pi)
  return normal(z) + normal((x - W @ z - B) / NOISE) - x.size * jnp.log(NOISE)


def biased(x):
  """The best mean-field posterior, but for .3 in the mean and a factor in the scale."""
  mean = jnp.linalg.solve(jnp.asarray(PRECISION, jnp.float32), W.T @ (x - B) / NOISE**2)
  return mean + 0.3, 1.5 * jnp.asarray(SCALES, jnp.float32)


def exact_evidence(x=X):
  distance = (x - B).astype(np.float64)
  mahalanobis = np.einsum('ni,ij,nj->n', distance, np.linalg.inv(COVARIANCE), distance)
  return -0.5 * (mahalanobis + np.linalg.slogdet(2 * np.pi * COVARIANCE)[1])


def divergence(means, scales):
  """KL(q || p(z | x)) of mean-field Gaussians, [N]."""
  distance = means - MEANS
  mahalanobis = np.einsum('ni,ij,nj->n', distance, PRECISION, distance)
  trace = np.diagonal(PRECISION) @ scales**2
  log_det = np.linalg.slogdet(PRECISION)[1] + 2 * np.log(scales).sum()
  return 0.5 * (trace + mahalanobis - 3 - log_det)


@pytest.fixture(scope='module')
def found():
  return gaps.inference_gaps(log_joint, biased, X, jax.random.key(3), protocol=QUICK)


def test_every_level_of_a_plain_vae_is_right(found):
  """Means within 5 Monte-Carlo standard errors, themselves below a twentieth of the gaps."""
  arrays, exact = found.per_example, exact_evidence()
  expected = {
    'q': exact - divergence(MEANS + 0.3, 1.5 * SCALES),
    'optimal': exact - divergence(MEANS, SCALES),
  }
  for name, elbo in expected.items():
    error = np.sqrt(np.sum(arrays[f'{name}/elbo_standard_error'] ** 2)) / len(X)
    assert error < 0.02
    assert abs((arrays[f'{name}/elbo'] - elbo).mean()) < 5 * error + 0.005
  for name in ('q', 'optimal', 'optimal_flow', 'ais_q', 'ais_prior'):
    error = np.sqrt(np.sum(arrays[f'{name}/standard_error'] ** 2)) / len(X)
    assert error < 0.05
    assert abs((arrays[f'{name}/log_evidence'] - exact).mean()) < 5 * error + 0.01
  assert np.all(arrays['optimal_flow/elbo'] < exact + 0.1)


def test_a_biased_posterior_is_caught_and_the_family_is_not_blamed(found):
  told, count = found.summary['gaps']['mean_field'], len(X)
  lost = divergence(MEANS + 0.3, 1.5 * SCALES) - divergence(MEANS, SCALES)
  assert lost.mean() > 0.5
  assert abs(told['amortization']['mean'] - lost.mean()) < 0.05
  assert abs(told['approximation']['mean'] - divergence(MEANS, SCALES).mean()) < 0.05
  exact_q = gaps.inference_gaps(
    log_joint, lambda x: (biased(x)[0] - 0.3, biased(x)[1] / 1.5), X, jax.random.key(4),
    protocol=PLAIN,
  )  # fmt: skip
  none = exact_q.summary['gaps']['mean_field']['amortization']
  assert abs(none['mean']) < 0.01 and none['standard_error'] < 0.01
  assert count == found.summary['num_examples']


def test_gaps_add_up(found):
  for gap in found.summary['gaps'].values():
    parts = gap['approximation']['mean'] + gap['amortization']['mean']
    np.testing.assert_allclose(parts, gap['inference']['mean'], rtol=1e-5)
  levels = {name: level['mean'] for name, level in found.summary['levels'].items()}
  lost = found.summary['gaps']['mean_field']
  np.testing.assert_allclose(
    levels['log_evidence'] - levels['elbo'], lost['inference']['mean'], rtol=1e-4
  )
  np.testing.assert_allclose(
    levels['elbo_optimal'] - levels['elbo'], lost['amortization']['mean'], rtol=1e-4
  )


def test_the_best_flow_is_better_than_the_best_gaussian(found):
  mean_field, flow = (
    found.summary['gaps'][name]['approximation'] for name in ('mean_field', 'flow')
  )
  assert flow['mean'] < 0.5 * mean_field['mean']
  assert flow['mean'] > -0.01


def test_the_search_says_that_it_has_converged(found):
  convergence = found.summary['convergence']
  assert convergence.keys() == {'mean_field', 'flow'}
  assert all(of['num_examples'] == 20 and of['converged'] for of in convergence.values())
  short = PLAIN._replace(
    num_doubled=10, search=Search(num_steps=40, num_samples=4, num_averaged=10, learning_rate=1e-3)
  )
  # z in other units: q* is too far for so few steps, also for the scouts'
  scaled = lambda x, z: log_joint(x, 0.05 * z)
  hurried = gaps.inference_gaps(scaled, biased, X, jax.random.key(5), protocol=short).summary
  assert not hurried['convergence']['mean_field']['converged']
  assert any('not converged' in told for told in hurried['warnings'])


def test_chunks_of_any_size_give_the_same():
  change = {'at_once': 7, 'samples_at_once': 33}
  one, other = (
    gaps.inference_gaps(log_joint, biased, X, jax.random.key(6), protocol=protocol).per_example
    for protocol in (PLAIN, PLAIN._replace(**change))
  )
  assert one.keys() == other.keys()
  for name in ('q/elbo', 'q/log_evidence', 'optimal/elbo', 'optimal/log_evidence'):
    np.testing.assert_allclose(one[name], other[name], atol=2e-4, err_msg=name)


def test_every_part_is_the_same_in_chunks_of_another_size():
  """But for rounding, which decides the first steps of a flow that starts as the identity."""
  short = QUICK._replace(
    search=QUICK.search._replace(num_steps=60, num_averaged=10),
    flow_search=QUICK.flow_search._replace(num_steps=40, num_averaged=10),
    annealing=Annealing(num_chains=4, num_temperatures=12, num_leapfrog=2),
    num_annealed=10,
    num_doubled=0,  # by the same programs
    at_once=X.shape[0],
  )
  one, other = (
    gaps.inference_gaps(log_joint, biased, X, jax.random.key(6), protocol=protocol).per_example
    for protocol in (short, short._replace(at_once=7, samples_at_once=33))
  )
  names = {name.partition('/')[0] for name in one}
  assert names >= {'optimal', 'optimal_flow', 'ais_q', 'ais_prior'}
  for name in names:
    for key in ('elbo', 'log_evidence'):
      difference = one[f'{name}/{key}'] - other[f'{name}/{key}']
      within = 0.05 if 'flow' in name else 2e-3
      assert np.mean(np.abs(difference) < within) >= 0.9, f'{name}/{key}'
      assert abs(difference.mean()) < 0.01, f'{name}/{key}'


def test_one_device_gives_the_same_as_two(tmp_path):
  """The same measurement by another process, which has one device if there are two here."""
  others = 2 if len(jax.devices()) == 1 else 1
  here = gaps.inference_gaps(log_joint, biased, X, jax.random.key(6), protocol=PLAIN).per_example
  script = (
    f'import jax, numpy as np, test_inference_gaps as t; assert len(jax.devices()) == {others};'
    'found = t.gaps.inference_gaps(t.log_joint, t.biased, t.X, jax.random.key(6), '
    'protocol=t.PLAIN);'
    f'np.savez({str(tmp_path / "there.npz")!r}, **found.per_example)'
  )
  # Of two flags the last one counts
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={others}'
  environment = os.environ | {'XLA_FLAGS': flags, 'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'}
  subprocess.run([sys.executable, '-c', script], env=environment, check=True)
  with np.load(tmp_path / 'there.npz') as there:
    for name in ('q/elbo', 'q/log_evidence', 'optimal/elbo', 'optimal/log_evidence'):
      np.testing.assert_allclose(here[name], there[name], atol=2e-4, err_msg=name)


def test_an_example_does_not_depend_on_those_after_it():
  few, all_of = (
    gaps.inference_gaps(log_joint, biased, x, jax.random.key(7), protocol=PLAIN).per_example
    for x in (X[:5], X)
  )
  np.testing.assert_allclose(few['optimal/elbo'], all_of['optimal/elbo'][:5], atol=2e-4)


def test_quadrature_is_taken_where_it_is_given():
  """The synthetic model: exact log p(x), and the exact best posterior, within .02 nats."""
  model = synthetic.make()
  z = jax.random.normal(jax.random.key(8), (30, 2))
  x = jax.vmap(lambda z, rng: model.sample({}, z, rng))(z, jax.random.split(jax.random.key(9), 30))
  told = gaps.inference_gaps(
    synthetic.log_joint_density, lambda x: (x[:2], jnp.full(2, 0.15)), x, jax.random.key(10),
    protocol=PLAIN._replace(search=Search(num_samples=8, learning_rate=3e-2)),
    log_evidence=synthetic.log_evidence,
  )  # fmt: skip
  exact = jax.vmap(synthetic.log_evidence)(x)
  # By quadrature in float32: squares over a variance of .01
  np.testing.assert_allclose(told.per_example['exact/log_evidence'], exact, atol=2e-3)
  assert told.summary['log_evidence_by'] == 'exact'
  best = jax.vmap(lambda x: synthetic.elbo(synthetic.optimal_posterior(x), x))(x)
  error = np.sqrt(np.sum(told.per_example['optimal/elbo_standard_error'] ** 2)) / 30
  assert abs((told.per_example['optimal/elbo'] - best).mean()) < 5 * error + 0.005


def test_a_posterior_of_another_family_is_searched_in_its_own():
  """Full covariance: its best member is p(z | x) itself, so the family loses nothing."""
  model = linear_gaussian.make(6, 3, NOISE)
  family = full_covariance.make()
  encoder = mlp((4,), family.heads(3), 'tanh')
  method = amortized.make(model, encoder, family=family)
  params = jax.jit(method.init)(jax.random.key(11), jnp.zeros(6))
  params['model'] = {'weight': jnp.asarray(W), 'bias': jnp.asarray(B)}
  told = gaps.measure(gaps.problem_of(model, method), params, X, jax.random.key(12), PLAIN).summary
  assert told['family'] == 'own'
  assert abs(told['gaps']['own']['approximation']['mean']) < 0.02
  assert told['gaps']['mean_field']['approximation']['mean'] > 0.1
  assert told['gaps']['own']['amortization']['mean'] > 0.5


def test_any_method_is_a_problem():
  model = linear_gaussian.make(6, 3, NOISE)
  method = instance_adaptive.make(model, mlp((4,), {'mean': 3, 'log_var': 3}, 'tanh'))
  params = jax.jit(method.init)(jax.random.key(13), jnp.zeros(6))
  told = gaps.measure(gaps.problem_of(model, method), params, X, jax.random.key(14), PLAIN)
  q = jax.vmap(lambda x: method.infer(params, x, None))(X)
  exact = jax.vmap(lambda q, x: linear_gaussian.elbo(q, params['model'], x, NOISE))(q, X)
  error = told.per_example['q/elbo_standard_error']
  assert np.all(np.abs(told.per_example['q/elbo'] - exact) < 5 * error + 1e-3)


class Fixed(NamedTuple):
  """A posterior of one point, whatever its leaves are."""

  z: Any
  other: Any

  def sample_and_log_prob(self, rng):
    return self.z, jnp.zeros(())


class MultivariateNormalDiag:
  """With the signature of distrax, whose methods take the key by name."""

  scale = None  # of tfp an operator

  def __init__(self, loc, scale_diag):
    self.mean, self.stddev = lambda: loc, lambda: scale_diag

  def sample_and_log_prob(self, *, seed, sample_shape=()):
    pytest.fail('its scale would be searched as if it might be negative')


class Seeded(MultivariateNormalDiag):
  """Of another family, for all that is known."""


HOLES = X.copy()
HOLES[5, 2], HOLES[7, 1] = np.nan, np.inf


class NoTree:
  sample_and_log_prob = None


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ((log_joint, lambda x: biased(x)[0], X), 'not (mean, scale)'),
    ((log_joint, lambda x: (jnp.zeros(3), jnp.zeros(2)), X), 'not [Z]'),
    ((lambda x, z: z, biased, X), 'log_joint of one example has the shape (3,), not ()'),
    ((log_joint, lambda x: (jnp.zeros(3), -jnp.ones(3)), X), 'not finite'),
    ((log_joint, biased, X[:1]), 'two examples, not 1'),
    ((log_joint, biased, X, {'log_evidence': lambda x: x[:1]}), 'not one finite number'),
    ((log_joint, biased, X, {'log_evidence': lambda x: jnp.nan * x[0]}), 'not one finite number'),
    ((log_joint, biased, X, {'protocol': PLAIN._replace(num_doubled=1)}), 'num_doubled=1 has no'),
    ((log_joint, biased, X, {'protocol': PLAIN._replace(num_annealed=-1)}), 'num_annealed=-1 has'),
    ((log_joint, biased, X, {'protocol': PLAIN._replace(at_once=0)}), 'at_once=0 is not above 0'),
    ((log_joint, biased, X, {'protocol': PLAIN._replace(search=Search(num_averaged=0))}), 'search'),
    ((log_joint, biased, X, {'protocol': PLAIN._replace(search=Search(num_samples=3))}), 'even'),
    ((log_joint, biased, X, {'simulate': lambda rng: (jnp.zeros(3), jnp.zeros(6))}), 'not (x, z)'),
    ((log_joint, lambda x: Fixed(jnp.zeros(3), 2), X), 'leaf int is no array of floats'),
    ((log_joint, lambda x: Fixed(jnp.zeros(3), np.arange(3)), X), 'with a leaf of int'),
    ((log_joint, lambda x: Fixed(jnp.zeros((3, 2)), 1.0), X), 'the shape (3, 2), not [Z]'),
    ((log_joint, lambda x: Fixed((), 1.0), X), 'not [Z]'),
    ((log_joint, lambda x: NoTree(), X), 'NoTree is no array of floats; make it a pytree'),
    (
      (log_joint, lambda x: distributions.Laplace(*biased(x)), X),
      'Laplace of another library, and',
    ),
    ((log_joint, lambda x: Seeded(*biased(x)), X), 'Seeded of another library, and no mean-field'),
    ((log_joint, biased, scipy.sparse.csr_matrix(X)), 'a sparse csr_matrix; give x.toarray()'),
    ((log_joint, biased, sparse.BCOO.fromdense(X)), 'x is a sparse BCOO; give x.todense()'),
    ((log_joint, biased, {'images': X}), "x is a dict; give one array of examples, such as x['ima"),
    ((log_joint, biased, iter(X)), 'x has the type iterator; give one array of examples'),
    ((log_joint, biased, (X, X)), 'x is a tuple; give one array of examples, such as x[0]'),
    ((log_joint, biased, [X[0], X[1, :2]]), 'examples of different shapes; make them alike'),
    ((log_joint, biased, np.array([X[0, 0], None])), 'an array of objects; give one of numbers'),
    ((log_joint, biased, X.astype(str)), 'x has the dtype <U32; give real numbers'),
    ((log_joint, biased, X * 1j), 'x has the dtype complex64; give real numbers'),
    ((log_joint, biased, HOLES), 'x is not finite in 2 of 40 examples, the first being number 5;'),
    ((log_joint, biased, HOLES, {'log_evidence': lambda x: jnp.sum(x)}), 'x is not finite in 2 of'),
  ],
)
def test_what_does_not_fit_gets_one_clear_line(arguments, words):
  options = {'protocol': PLAIN} | dict(*arguments[3:])
  with pytest.raises(ValueError) as caught:
    gaps.inference_gaps(*arguments[:3], jax.random.key(0), **options)
  assert words in str(caught.value)
  assert '\n' not in str(caught.value)


def test_a_model_may_know_what_to_do_with_missing_values():
  known = lambda x: jnp.where(jnp.isfinite(x), x, B)
  told = gaps.inference_gaps(
    lambda x, z: log_joint(known(x), z), lambda x: biased(known(x)), HOLES, jax.random.key(21),
    protocol=PLAIN._replace(search=Search(num_steps=10)),
  )  # fmt: skip
  assert np.isfinite(told.per_example['q/elbo']).all()


@pytest.mark.parametrize(
  'wrap',
  [
    lambda mean, scale: distributions.Normal(mean, scale),
    lambda mean, scale: distributions.Normal(mean, scale).to_event(1),
    lambda mean, scale: MultivariateNormalDiag(mean, scale),
  ],
)
def test_mean_field_gaussians_of_other_libraries_are_read(wrap):
  mean, scale = biased(X[0])
  found = gap_inputs.as_posterior(wrap(mean, scale))
  np.testing.assert_array_equal(found.mean, mean)
  np.testing.assert_allclose(found.log_scale, np.log(scale), rtol=1e-6)
  found = gap_inputs.as_posterior(wrap(mean, jnp.ones(3)))  # of which numpyro keeps one entry
  np.testing.assert_allclose(found.log_scale, jnp.zeros(3), atol=1e-7)


def test_a_module_in_training_mode_is_named():
  class Encoder(nnx.Module):
    def __init__(self):
      self.norm = nnx.BatchNorm(6, rngs=nnx.Rngs(0))

    def __call__(self, x):
      return self.norm(x[None])[0, :3], jnp.ones(3)

  encoder = Encoder()
  with pytest.raises(ValueError, match=r'in training mode; call its \.eval\(\) first') as caught:
    gaps.inference_gaps(log_joint, encoder, X, jax.random.key(22), protocol=PLAIN)
  assert '\n' not in str(caught.value)
  layer = linen.BatchNorm(use_running_average=False)
  state = layer.init(jax.random.key(0), jnp.zeros((1, 6)))
  with pytest.raises(ValueError, match='in training mode'):
    gaps.inference_gaps(
      log_joint, lambda x: (layer.apply(state, x[None])[0, :3], jnp.ones(3)), X,
      jax.random.key(22), protocol=PLAIN,
    )  # fmt: skip
  encoder.eval()
  short = PLAIN._replace(search=Search(num_steps=10))
  gaps.inference_gaps(log_joint, encoder, X, jax.random.key(22), protocol=short)


def test_where_the_prior_is_no_start_the_search_goes_on_from_q():
  """A model of z > 0, log p(x, z) being no number elsewhere: z = exp of a narrow Gaussian."""

  def positive(x, z):
    log_z = jnp.log(z)  # NaN below 0
    return jnp.sum(-0.5 * ((log_z - x) / 0.05) ** 2 - log_z - jnp.log(0.05 * (2 * jnp.pi) ** 0.5))

  x = np.full((4, 2), 0.5, np.float32)
  near = lambda x: (jnp.exp(x) + 0.02, jnp.full(2, 0.07))
  told = gaps.inference_gaps(positive, near, x, jax.random.key(17), protocol=PLAIN).summary
  lost = told['gaps']['mean_field']
  assert 0 < lost['amortization']['mean'] < 0.3  # log p(x) = 0, q* all but p(z | x)
  assert abs(told['levels']['log_evidence']['mean']) < 0.01


def test_an_exact_posterior_is_trusted():
  """All weights are the same but for rounding: that is no heavy tail."""
  model = linear_gaussian.make(6, 3, NOISE)
  params = {'weight': jnp.asarray(np.eye(6, 3, dtype=np.float32)), 'bias': jnp.asarray(B)}
  joint = lambda x, z: model.log_prior(params, z) + model.log_likelihood(params, x, z)
  posterior = lambda x: linear_gaussian.posterior(params, x, NOISE)
  told = gaps.inference_gaps(joint, posterior, X, jax.random.key(18), protocol=PLAIN).summary
  assert told['warnings'] == []
  assert told['estimators'][0]['share_bad_k'] == 0 and told['estimators'][0]['pareto_k'] is None
  assert told['verdict'][0].startswith('This encoder loses nothing by amortization')


def test_the_page_of_a_model_that_was_not_made_here(tmp_path, found, monkeypatch):
  """Numbers, sentences and pictures of what `inference_gaps` found."""
  images = np.random.default_rng(4).random((len(X), 5, 5))
  page = gap_page.write({'my VAE': found, 'again': found}, images, tmp_path / 'page')
  text = html.unescape(page.read_text())
  assert text.count('data:image/png') == 3 and f'Inference gaps: {len(X)} examples' in text
  assert f'my VAE: {found.summary["verdict"][0]}' in text
  results, arrays = report.load(tmp_path / 'page')
  np.testing.assert_array_equal(arrays['again/q/elbo'], found.per_example['q/elbo'])
  worst = results['subjects'][0]['worst'][0]
  np.testing.assert_array_equal(arrays['my VAE/worst'][0, ..., 0], images[worst])
  # A name that one of our rows has stays its user's; images with channels first are not shown
  page = gap_page.write({'static': found}, images[:, None], tmp_path / 'channels_first')
  assert f'static: {found.summary["verdict"][0]}' in html.unescape(page.read_text())
  assert 'static/worst' not in report.load(tmp_path / 'channels_first')[1]
  # Bytes, and floats that leave 0..1, are not drawn saturated; binary images are drawn as such
  binary = (images > 0.5).astype(np.uint8)
  page = gap_page.write({'my VAE': found}, binary, tmp_path / 'bytes')
  drawn = report.load(tmp_path / 'bytes')[1]['my VAE/worst'][0, ..., 0]
  np.testing.assert_array_equal(drawn, binary[worst])
  for x in ((255 * images).astype(np.uint8), 510 * images - 255):
    page = gap_page.write({'my VAE': found}, x, tmp_path / 'bytes')
    drawn = report.load(tmp_path / 'bytes')[1]['my VAE/worst'][0, ..., 0]
    assert np.abs(drawn - images[worst]).max() < 0.01
  with pytest.raises(ValueError, match='directory=gs://b is no local path'):
    gap_page.write({'my VAE': found}, images, 'gs://b')
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  assert gap_page.write({'my VAE': found}, images, '~/pg').is_relative_to(tmp_path / 'home' / 'pg')
  with pytest.raises(ValueError, match='the same examples'):
    gap_page.write({'my VAE': found}, images[1:], tmp_path / 'never')
  assert not (tmp_path / 'never').exists()


def test_the_noise_floor_is_small_beside_the_gap_of_the_oracle():
  floor = gap_checks.noise_floor(8, QUICK._replace(num_oracle=4), jax.random.key(15))
  assert floor['approximation_gap']['mean'] > 0.2
  assert -1e-4 < floor['mean_field']['mean'] < 0.005
  assert -0.02 < floor['flow']['mean'] < 0.5 * floor['approximation_gap']['mean']


def simulate(rng):
  rng_z, rng_x = jax.random.split(rng)
  z = jax.random.normal(rng_z, (3,))
  return W @ z + B + NOISE * jax.random.normal(rng_x, (6,)), z


def test_simulated_data_enclose_log_p():
  """Lower bounds below, upper ones above the exact mean, but for .1 nats and chance."""
  problem = Problem(
    lambda params, x, z: log_joint(x, z), lambda params, x, rng: gap_inputs.as_posterior(biased(x))
  )
  draw, rng = lambda params, rng: simulate(rng), jax.random.key(16)
  chains = PLAIN.annealing._replace(num_chains=32)
  protocol = PLAIN._replace(num_simulated=40, annealing=chains)
  told = gap_checks.sandwich(problem, draw, {'model': ()}, rng, protocol)
  pairs = jax.vmap(simulate)(jax.random.split(jax.random.split(rng)[0], 40))
  exact = np.mean(exact_evidence(np.asarray(pairs[0])))
  width = told['width']
  chance = 5 * width['standard_error']
  assert abs(width['mean']) < 0.1 and width['mean'] > -chance > -0.15
  for lower in told['lower'].values():
    assert exact - 0.1 < lower['mean'] < exact + chance
  for upper in told['upper'].values():
    assert exact - chance < upper['mean'] < exact + 0.1


def test_half_precision_costs_no_nats():
  """The exact posterior N(0, I) of 50 latents, its mean in bfloat16 and its scale whole numbers."""
  joint = lambda x, z: -0.5 * jnp.sum(z**2) - 25 * jnp.log(2 * jnp.pi) + 0 * x[0]
  half = lambda x: (jnp.zeros(50, jnp.bfloat16), [1] * 50)
  told = gaps.inference_gaps(joint, half, X, jax.random.key(19), protocol=PLAIN).summary
  assert abs(told['levels']['elbo']['mean']) < 1e-4
  assert abs(told['levels']['log_evidence']['mean']) < 1e-4


def test_lists_in_and_double_precision_on(x64):
  """All parts run where JAX is in double precision; x may be a list."""
  protocol = PLAIN._replace(num_annealed=2, num_simulated=2, num_oracle=2)
  told = gaps.inference_gaps(
    log_joint, biased, X[:2].tolist(), jax.random.key(20), protocol=protocol, simulate=simulate
  ).summary
  error = told['levels']['log_evidence']['mean'] - np.mean(exact_evidence(X[:2]))
  assert abs(error) < 0.1
  for bound in told['sandwich']['lower'].values():
    assert np.isfinite(bound['mean'])
  assert told['floor']['latent_dim'] == 3 and told['floor']['num_examples'] == 2
