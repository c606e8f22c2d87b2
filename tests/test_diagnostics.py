"""The diagnostics on models and encoders whose exact answers are known, and their words."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from iavae import calibration, diagnostics, modulation_diagnostics, networks, posteriors
from iavae.inference import amortized, instance_adaptive
from iavae.models import linear_gaussian, synthetic
from iavae.modulation import modulate
from iavae.posteriors.full_covariance import FullCovarianceGaussian
from iavae.posteriors.gaussian import DiagonalGaussian
from iavae.reports import latents
from iavae.types import InferenceMethod

NOISE = 1.5  # so wide that the information is far below log N
MODEL = linear_gaussian.make(data_dim=4, latent_dim=2, noise_scale=NOISE)
PARAMS = {'model': MODEL.init(jax.random.key(3)), 'inference': {}}
WEIGHT = np.asarray(PARAMS['model']['weight'], np.float64)
NUM, REPEATS = 500, 8


def of_posterior(infer, **rest):
  return InferenceMethod(init=None, infer=infer, loss=None, **rest)


def exact(params, x, rng):
  return linear_gaussian.posterior(params['model'], x, NOISE)


def narrow(params, x, rng):
  mean, log_scale = exact(params, x, rng)
  return DiagonalGaussian(mean, log_scale - math.log(2))


def collapsed(params, x, rng):
  return DiagonalGaussian(jnp.zeros(2), jnp.zeros(2))


def observations(num, seed=5):
  def one(rng):
    rng_z, rng_x = jax.random.split(rng)
    return MODEL.sample(PARAMS['model'], MODEL.sample_prior(None, rng_z), rng_x)

  return np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(seed), num)))


@functools.cache
def measured(infer, **options):
  """The diagnostics of disjoint sets of observations."""
  measure = diagnostics.make_measure(MODEL, of_posterior(infer), **options)
  sets = np.split(observations(NUM * REPEATS), REPEATS)
  return [measure(PARAMS, x, jax.random.key(i)) for i, x in enumerate(sets)]


def mean_and_error(values):
  values = np.asarray(values, np.float64)
  return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def test_kl_per_dim_sums_to_the_closed_form():
  q = DiagonalGaussian(jnp.array([0.3, -1.2, 0.0]), jnp.array([-0.5, 0.4, 0.0]))
  per_dim = diagnostics.kl_per_dim(diagnostics.moments(q, jnp.zeros((0, 3))))
  np.testing.assert_allclose(per_dim.sum(), q.standard_normal_kl(), rtol=1e-5)
  by_hand = [0.5 * (m**2 + math.exp(2 * s) - 1 - 2 * s) for m, s in zip(*q, strict=True)]
  np.testing.assert_allclose(per_dim, by_hand, atol=1e-5)
  for found in measured(exact):
    assert sum(found['kl_per_dim']) == pytest.approx(found['kl'], rel=1e-5)
    assert found['kl_per_dim_exact'] and sorted(found['kl_per_dim'])[::-1] == found['kl_per_dim']


def test_kl_per_dim_of_estimated_moments_has_no_bias():
  """A full covariance: marginals N(.5, .49) and N(-1, .36 (1 + .25)); 20,000 estimates of 10.

  Uncorrected, m^2 would add v / 20, .025 and .023, and log v 1 / 18, .056.
  """
  q = FullCovarianceGaussian(
    jnp.array([0.5, -1.0]), jnp.log(jnp.array([0.7, 0.6])), jnp.ones(1) / 2
  )
  rngs = jax.random.split(jax.random.key(1), (20_000, 10))
  z, _ = jax.vmap(jax.vmap(q.sample_and_log_prob))(rngs)
  found = jax.vmap(lambda z: diagnostics.kl_per_dim(diagnostics.moments(q, z)))(z)
  mean, variance = np.array([0.5, -1.0]), np.array([0.49, 0.36 * 1.25])
  expected = 0.5 * (mean**2 + variance - 1 - np.log(variance))
  error = np.std(found, axis=0) / math.sqrt(20_000)
  left = 0.003  # of the bias of log v, which is corrected to first order
  assert (np.abs(np.mean(found, axis=0) - expected) < 5 * error + left).all()
  assert (5 * error + left < 0.02).all()


def test_active_units_are_those_whose_mean_moves():
  rng = np.random.default_rng(0)
  spread = np.array([1.0, 0.2, 0.05, 0.0])  # variances 1, .04, .0025, 0
  mean = 3 + spread * rng.normal(size=(400, 4))
  found = diagnostics.active_units(mean, np.zeros(mean.shape))
  np.testing.assert_array_equal(found, [True, True, False, False])
  # Means of few draws vary by themselves
  estimated = mean + 0.2 * rng.normal(size=mean.shape)
  assert diagnostics.active_units(estimated, np.zeros(mean.shape)).all()
  found = diagnostics.active_units(estimated, np.full(mean.shape, 0.04))
  np.testing.assert_array_equal(found, [True, True, False, False])


def test_information_of_exact_posteriors_is_that_of_the_model():
  """I(x; z) = 1/2 log det(I + W^T W / s^2), and the aggregated posterior is the prior."""
  expected = 0.5 * np.linalg.slogdet(np.eye(2) + WEIGHT.T @ WEIGHT / NOISE**2)[1]
  assert 0.3 < expected < 1.5
  mean, error = mean_and_error([found['mutual_information'] for found in measured(exact)])
  assert abs(mean - expected) < 5 * error < 0.1
  mean, error = mean_and_error([found['aggregate_kl'] for found in measured(exact)])
  assert abs(mean) < 5 * error + 0.01
  assert {found['active_units'] for found in measured(exact)} == {2}


def test_a_collapsed_encoder_tells_nothing():
  for found in measured(collapsed):
    assert found['kl'] == found['active_units'] == 0
    assert found['mutual_information'] == pytest.approx(0, abs=5e-6)  # ten ulps of log N
    assert found['sbc']['coverage_active'] is None  # no latent is active


def test_information_is_at_most_log_n():
  def sure(params, x, rng):
    return DiagonalGaussian(100 * x[:2], jnp.full(2, -6.0))

  (found, *_) = measured(sure)
  assert found['mutual_information'] == pytest.approx(math.log(NUM), abs=0.01)
  assert found['mutual_information'] <= math.log(NUM) + 5e-6


@pytest.mark.parametrize('name', ['full_covariance', 'autoregressive', 'realnvp', 'maf'])
def test_information_by_the_definition(name):
  """Families with correlations, and with networks that all examples share."""
  sizes = {'hidden': 5, 'context_dim': 3}
  options = {k: v for k, v in sizes.items() if k in posteriors.defaults(name)}
  family = posteriors.make(name, **options)
  method = amortized.make(MODEL, networks.mlp((6,), family.heads(2)), family=family)
  params = method.init(jax.random.key(0), jnp.zeros(4))
  leaves, tree = jax.tree.flatten(params)
  rngs = jax.random.split(jax.random.key(1), len(leaves))
  params = jax.tree.unflatten(
    tree, [l + 0.5 * jax.random.normal(r, l.shape) for l, r in zip(leaves, rngs, strict=True)]
  )
  x, rngs = observations(12), jax.random.split(jax.random.key(2), 3)

  @jax.jit
  def encode(params, x):
    qs = jax.vmap(lambda x: method.infer(params, x, None))(x)
    z = jax.vmap(lambda q: jax.vmap(q.sample_and_log_prob)(rngs)[0])(qs)
    return qs, z, jax.vmap(lambda z: jax.vmap(lambda q: jax.vmap(q.log_prob)(z))(qs))(z)

  qs, z, log_probs = encode(params, x)  # [N], [N, S, Z], [N, N, S]
  aggregate = np.log(np.mean(np.exp(np.float64(log_probs)), axis=1))
  own = np.asarray(log_probs)[np.arange(12), np.arange(12)]
  flow = params['inference'].get('flow')
  bare = qs._replace(flow=None) if flow else qs
  found = diagnostics.mutual_information(bare, flow, np.asarray(z), own)
  assert found == pytest.approx(np.mean(own - aggregate), rel=1e-4)
  whole = diagnostics.measure(MODEL, method, params, x, jax.random.key(0), num_simulations=20)
  assert not whole['kl_per_dim_exact'] and 0 < whole['mutual_information'] <= math.log(12) + 1e-5


def test_a_family_that_cannot_evaluate_other_draws_has_no_information():
  family = posteriors.make('planar')
  method = amortized.make(MODEL, networks.mlp((6,), family.heads(2)), family=family)
  params = method.init(jax.random.key(0), jnp.zeros(4))
  found = diagnostics.measure(MODEL, method, params, observations(9), jax.random.key(0))
  assert found['mutual_information'] is None and found['aggregate_kl'] is None
  assert math.isfinite(found['latent_use']) and len(found['kl_per_dim']) == 2


def test_latent_use_of_exact_posteriors():
  """With its own z, E |x - W z - b|^2 = D s^2; with another's it is 2 tr(W W^T) more."""
  expected = np.sum(WEIGHT**2) / NOISE**2
  mean, error = mean_and_error([found['latent_use'] for found in measured(exact)])
  assert abs(mean - expected) < 5 * error < 0.2 * expected
  blind = PARAMS | {'model': PARAMS['model'] | {'weight': jnp.zeros((4, 2))}}
  method = of_posterior(lambda params, x, rng: exact(PARAMS, x, rng))
  found = diagnostics.measure(MODEL, method, blind, observations(50), jax.random.key(0))
  assert found['latent_use'] == 0


def test_exact_posteriors_are_calibrated_and_narrow_ones_are_not():
  right, wrong = (measured(infer)[0]['sbc'] for infer in (exact, narrow))
  assert right['p_value'] > 0.05 and right['num_rejected'] == 0
  error = math.sqrt(0.9 * 0.1 / (2 * right['num_simulations']))
  assert abs(right['coverage'] - 0.9) < 5 * error
  assert wrong['p_value'] < 1e-6 and wrong['num_rejected'] == 2
  # +- 1.645 / 2 standard deviations cover .589
  assert abs(wrong['coverage'] - 0.589) < 5 * math.sqrt(0.589 * 0.411 / 1000)


def test_calibration_of_ranks_by_hand():
  """100 ranks: those from 5 to 94 are inside; one bin of twenty holds five of them."""
  draws = np.array([[[1.0], [4.0], [2.0]], [[7.0], [8.0], [9.0]]])
  np.testing.assert_array_equal(calibration.rank(np.array([[3.0], [6.0]]), draws), [[2], [0]])
  ranks = np.tile(np.arange(100), 5)[:, None]
  assert calibration.coverage(ranks) == 0.9 and calibration.uniformity(ranks) == [1.0]
  one_sided = np.where(ranks < 50, ranks, 99 - ranks)
  assert calibration.coverage(one_sided) == 0.9  # which alone would not tell
  assert calibration.uniformity(one_sided)[0] < 1e-6
  both = np.concatenate([ranks, one_sided], axis=1)
  assert calibration.uniformity(both)[0] == 1.0  # adjusted for two latents


def constructed(k, offset):
  """h(x) = offset + e_j, the j-th signed unit vector of R^k in turn; |phi| = 2."""

  def modulation(params, x, rng):
    h = jnp.asarray(offset).at[jnp.int32(x[0])].add(x[1])
    return {'dense': {'kernel': h}, 'norm': {'scale': jnp.ones(1)}}

  rows = [(j, sign) for j in range(k) for sign in (1, -1)] * 2
  base = {'dense': {'kernel': np.full(4, 1.0)}, 'norm': {'scale': np.full(1, 9.0)}}
  method = of_posterior(None, modulation=modulation)
  diagnose = modulation_diagnostics.make_modulation_diagnostics(method, at_once=7)
  return diagnose({'inference': {'encoder': base}}, np.array(rows), jax.random.key(0))


@pytest.mark.parametrize('k', [1, 3, 7])
def test_effective_rank_of_k_equal_directions(k):
  found = constructed(k, np.zeros(k))
  assert found['effective_rank'] == pytest.approx(k, rel=1e-6)
  assert found['share_varying'] == pytest.approx(1) and found['num_examples'] == 4 * k
  assert found['relative_norm'] == pytest.approx(0.5)
  assert found['relative_norm_per_layer'] == {'dense': pytest.approx(0.5)}


def test_share_that_varies_leaves_out_what_is_common():
  found = constructed(3, np.array([0.0, 2.0, 2.0, 0.0])[:3])  # |offset|^2 = 8, and 1 varies
  assert found['share_varying'] == pytest.approx(1 / 9)
  assert found['effective_rank'] == pytest.approx(3, rel=1e-6)


ADAPTIVE = {
  'static': {'hypernetwork': 'linear', 'condition': 'zeros'},
  'linear': {'hypernetwork': 'linear'},
  'gradient': {'hypernetwork': 'gradient', 'num_steps': 2, 'trunk_dim': 4, 'early_layers': True},
}


@pytest.mark.parametrize('name', ADAPTIVE)
def test_the_modulation_is_what_inference_adds(name):
  model, encoder = synthetic.make(), networks.mlp((4,), {'mean': 2, 'log_var': 2})
  method = instance_adaptive.make(model, encoder, **ADAPTIVE[name])
  params = method.init(jax.random.key(0), jnp.zeros(3))
  params['inference']['hypernetwork'] = jax.tree.map(
    lambda leaf: leaf + 0.1, params['inference']['hypernetwork']
  )
  x, rng = jax.random.normal(jax.random.key(1), (20, 3)), jax.random.key(2)
  one = method.modulation(params, x[0], rng)
  heads = encoder.apply(modulate(params['inference']['encoder'], one), x[0])
  q = method.infer(params, x[0], rng)
  np.testing.assert_allclose(q.mean, heads['mean'], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(2 * q.log_scale, heads['log_var'], rtol=1e-4, atol=1e-5)
  found = modulation_diagnostics.make_modulation_diagnostics(method, at_once=10)(params, x, rng)
  assert found['relative_norm'] > 0
  if name == 'static':
    assert found['share_varying'] == found['effective_rank'] == 0
  else:
    assert 0 < found['share_varying'] <= 1 <= found['effective_rank'] < 20


def test_chunks_change_nothing():
  def jittered(params, x, rng):  # an inference that draws
    mean, log_scale = exact(params, x, rng)
    return DiagonalGaussian(mean + 0.1 * jax.random.normal(rng, (2,)), log_scale)

  x, found = observations(30), []
  for at_once in (7, 30):
    options = {'at_once': at_once, 'num_simulations': 40}
    method = of_posterior(jittered)
    found.append(diagnostics.measure(MODEL, method, PARAMS, x, jax.random.key(0), **options))
  flat = [jax.tree.leaves(values) for values in found]
  np.testing.assert_allclose(*flat, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_measured_is_refused():
  with pytest.raises(ValueError, match=r'prior is N\(0, I\)'):
    diagnostics.make_measure(MODEL._replace(standard_normal_prior=False), of_posterior(exact))
  with pytest.raises(ValueError, match='takes two'):
    diagnostics.measure(MODEL, of_posterior(exact), PARAMS, observations(1), jax.random.key(0))


HEALTHY = {
  'kl': 20.0, 'active_units': 20, 'latent_dim': 32, 'num_examples': 500,
  'mutual_information': 5.0, 'aggregate_kl': 15.0, 'latent_use': 90.0,
}  # fmt: skip
CONVOLUTIONAL, MLP = (
  {
    'evaluation': {},
    'model': {'encoder': encoder, 'decoder': decoder, 'initialization': initialization},
    'pretrain': {'num_epochs': 15, 'warmup_epochs': 5},
  }
  for encoder, decoder, initialization in (('resnet', 'pixelcnn', 'torch'), ('mlp', 'mlp', 'torch'))
)


@pytest.mark.parametrize(
  ('changed', 'kinds'),
  [
    ({}, []),
    ({'kl': 0.09}, ['collapsed']),
    ({'active_units': 0}, ['collapsed']),
    ({'active_units': 7}, ['few']),
    ({'active_units': 8}, []),
    ({'latent_use': 0.05}, ['unused']),
    ({'mutual_information': 6.2}, ['ceiling']),  # log 500 = 6.21
    ({'mutual_information': None}, []),
    ({'kl': 0.01, 'active_units': 0, 'latent_use': 0.0}, ['collapsed', 'unused']),
  ],
)
def test_collapse_is_named(changed, kinds):
  assert list(latents.collapse(HEALTHY | changed, CONVOLUTIONAL)) == kinds


def test_what_to_try_is_what_there_is():
  worst = HEALTHY | {'kl': 0.013, 'active_units': 0}
  told = latents.collapse(worst, CONVOLUTIONAL)['collapsed']
  assert 'posterior collapse: the KL is 0.01 nats and 0 of 32 latents are active' in told
  assert '--config.pretrain.warmup_epochs, now 5' in told and '--config.model.kernel_sizes' in told
  assert 'lecun' not in told and 'aggressive' not in told  # for MLPs
  told = latents.collapse(worst, MLP)['collapsed']
  assert '--config.model.initialization=lecun' in told and 'aggressive from scratch' in told
  assert 'kernel_sizes' not in told
  assert 'Try' not in latents.collapse(worst, {})['collapsed']  # where the decoder is known


def shown(*entries):
  """Results with these diagnostics: of the base and of IA-VAE in turn."""
  rest = {
    'kl_per_dim': [], 'sbc': {'num_simulations': 9, 'coverage': 0.9, 'coverage_active': 0.8,
                              'num_rejected': 3}
  }  # fmt: skip
  modulation = {
    'num_examples': 200, 'relative_norm': 0.1, 'share_varying': 0.25, 'effective_rank': 2.0,
    'relative_norm_per_layer': {'hidden': 0.05, 'mean': 0.4},
  }  # fmt: skip
  return {
    'provenance': {'config': MLP},
    'diagnostics': [
      rest | entry | {'method': name, 'seed': i // 2, 'modulation': modulation if i % 2 else None}
      for i, entry in enumerate(entries)
      for name in (('vae', 'ia_vae')[i % 2],)
    ],
  }


def test_tables_are_means_over_seeds():
  told = latents.make(lambda results, method: method, lambda results: ', here')
  high = HEALTHY | {'kl': 22.0, 'mutual_information': 6.2}
  results = shown(HEALTHY, high, HEALTHY | {'kl': 21.0}, high)
  table = told.carried(results)
  assert table.title == 'What the latents carry, here' and 'of 32' in table.columns[2]
  assert [row[:2] for row in table.rows] == [
    ('vae', '20.50 ± 0.71'),
    ('ia_vae', '22.00 ± 0.00'),
  ]
  assert [row[3] for row in table.rows] == ['5.00 ± 0.00', '≥ 6.20 ± 0.00']
  assert {row[6:] for row in table.rows} == {('0.80 ± 0.00', '3.0 ± 0.0')}
  assert {len(row) for row in table.rows} == {len(table.columns)}
  (row,) = told.modulations(results).rows
  assert len(row) == len(told.modulations(results).columns)
  assert row == ('ia_vae', '0.100 ± 0.000', 'mean: 0.400', '25.0 ± 0.0', '2.0 ± 0.0')
  old = {'provenance': {'config': MLP}}
  assert not told.carried(old).rows and not told.modulations(old).rows and not told.findings(old)


def test_a_method_is_named_where_its_latents_differ_from_those_of_the_base():
  told = latents.make(lambda results, method: method)
  sick = HEALTHY | {'active_units': 3}
  assert [f.split(':')[0] for f in told.findings(shown(sick, sick))] == ['vae']
  assert [f.split(':')[0] for f in told.findings(shown(HEALTHY, sick))] == ['ia_vae']
  assert told.findings(shown(sick, HEALTHY))[0].startswith('vae: partial posterior collapse: 3 of')
