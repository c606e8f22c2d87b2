"""Bounds, posteriors and refinement on the linear-Gaussian oracle, whose answers are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from iavae import bounds, posteriors
from iavae.bounds import antithetic_loss, bound_loss, posterior_loss
from iavae.models import linear_gaussian
from iavae.posteriors.gaussian import DiagonalGaussian, standard_normal
from iavae.refine import Refinement, refine, refinement_path
from rounding import assert_within_ulps

NOISE = 0.5
MODEL = linear_gaussian.make(data_dim=4, latent_dim=2, noise_scale=NOISE)
PARAMS = MODEL.init(jax.random.key(3))
X = MODEL.sample(PARAMS, MODEL.sample_prior(PARAMS, jax.random.key(4)), jax.random.key(5))
LOG_EVIDENCE = float(linear_gaussian.log_evidence(PARAMS, X, NOISE))
EXACT = linear_gaussian.posterior(PARAMS, X, NOISE)
WRONG = DiagonalGaussian(
  EXACT.mean + jnp.array([0.3, -0.2]), EXACT.log_scale + jnp.array([0.4, -0.3])
)


def kl(q, p):
  """KL between diagonal Gaussians, written out."""
  vq, vp = np.exp(2 * np.asarray(q.log_scale)), np.exp(2 * np.asarray(p.log_scale))
  squares = (np.asarray(q.mean) - np.asarray(p.mean)) ** 2
  return 0.5 * np.sum(vq / vp + squares / vp - 1 + np.log(vp / vq))


def mean_and_error(values):
  values = np.asarray(values, np.float64)
  return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def test_evidence_equals_scipy():
  weight = np.asarray(PARAMS['weight'], np.float64)
  covariance = weight @ weight.T + NOISE**2 * np.eye(4)
  expected = stats.multivariate_normal.logpdf(np.asarray(X), np.asarray(PARAMS['bias']), covariance)
  assert pytest.approx(expected, abs=1e-4) == LOG_EVIDENCE


def test_columns_are_orthogonal():
  gram = np.asarray(PARAMS['weight'].T @ PARAMS['weight'])
  np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-5)


def test_too_many_latents_is_refused():
  with pytest.raises(ValueError, match='latent_dim=5 needs data_dim'):
    linear_gaussian.make(data_dim=4, latent_dim=5)


def test_exact_posterior_has_constant_log_weight():
  """p(x, z) / q(z) = p(x) for every z if q is the posterior: zero variance, not only zero gap."""
  rngs = jax.random.split(jax.random.key(0), 100)
  values = jax.vmap(lambda rng: bounds.iwae_bound(MODEL, PARAMS, EXACT, X, rng, 1))(rngs)
  np.testing.assert_allclose(values, LOG_EVIDENCE, atol=1e-4)


@pytest.mark.parametrize('closed_form', [True, False])
def test_elbo_is_evidence_minus_kl(closed_form):
  model = MODEL._replace(standard_normal_prior=closed_form)
  rngs = jax.random.split(jax.random.key(1), 20_000)
  values = jax.vmap(lambda rng: bounds.elbo(model, PARAMS, WRONG, X, rng))(rngs)
  mean, error = mean_and_error(values)
  assert mean == pytest.approx(LOG_EVIDENCE - kl(WRONG, EXACT), abs=5 * error)
  assert error < 0.05


def test_more_samples_only_average():
  rngs = jax.random.split(jax.random.key(2), 4000)
  mean, error = mean_and_error(
    jax.vmap(lambda rng: bounds.elbo(MODEL, PARAMS, WRONG, X, rng, num_samples=8))(rngs)
  )
  assert mean == pytest.approx(LOG_EVIDENCE - kl(WRONG, EXACT), abs=5 * error)
  _, error_of_one = mean_and_error(
    jax.vmap(lambda rng: bounds.elbo(MODEL, PARAMS, WRONG, X, rng))(rngs)
  )
  # A variance estimated from n draws has a relative standard error of about sqrt(2 / n), or more
  assert (error_of_one / error) ** 2 == pytest.approx(8, rel=0.25)


def test_iwae_rises_with_samples_and_stays_below_evidence():
  rngs = jax.random.split(jax.random.key(6), 4000)
  results = [
    mean_and_error(jax.vmap(lambda rng: bounds.iwae_bound(MODEL, PARAMS, WRONG, X, rng, s))(rngs))
    for s in (1, 4, 16, 256)
  ]
  means = [mean for mean, _ in results]
  assert means == sorted(means)
  assert means[-1] <= LOG_EVIDENCE + 5 * results[-1][1]
  assert means[-1] == pytest.approx(LOG_EVIDENCE, abs=0.02)


def test_beta_weighs_the_kl_only():
  loss = bounds.bound_loss(MODEL, lambda params, x, rng: WRONG)
  params, rng = {'model': PARAMS, 'inference': {}}, jax.random.key(7)
  at_one, metrics = loss(params, X, rng, 1.0)
  at_half, same = loss(params, X, rng, 0.5)
  assert at_one == pytest.approx(-float(metrics['elbo']), rel=1e-5)
  assert float(at_one - at_half) == pytest.approx(0.5 * float(WRONG.standard_normal_kl()), rel=1e-4)
  assert metrics == same


def test_standard_normal_kl():
  assert WRONG.standard_normal_kl() == pytest.approx(kl(WRONG, standard_normal(2)), rel=1e-5)
  assert standard_normal(3).standard_normal_kl() == 0


def test_log_prob_of_a_draw_equals_scipy():
  z, log_prob = WRONG.sample_and_log_prob(jax.random.key(8))
  expected = stats.norm.logpdf(
    np.asarray(z), np.asarray(WRONG.mean), np.exp(np.asarray(WRONG.log_scale))
  )
  assert log_prob == pytest.approx(expected.sum(), abs=1e-4)


def test_draws_have_the_posteriors_moments():
  z = jax.vmap(lambda rng: WRONG.sample_and_log_prob(rng)[0])(
    jax.random.split(jax.random.key(9), 50_000)
  )
  scale = np.exp(np.asarray(WRONG.log_scale))
  np.testing.assert_allclose(np.mean(z, axis=0), WRONG.mean, atol=5 * scale.max() / np.sqrt(50_000))
  np.testing.assert_allclose(np.std(z, axis=0), scale, atol=5 * scale.max() / np.sqrt(100_000))


@pytest.mark.parametrize('start', [standard_normal(2), WRONG], ids=['prior', 'wrong'])
def test_refine_reaches_the_posterior(start):
  rate = optax.cosine_decay_schedule(0.05, 2000)
  q = refine(Refinement(2000, optax.adam(rate)), MODEL, PARAMS, start, X, jax.random.key(10))
  assert kl(q, EXACT) < 0.005


def test_zero_steps_return_the_start():
  q = refine(Refinement(0, optax.adam(0.1)), MODEL, PARAMS, WRONG, X, jax.random.key(0))
  np.testing.assert_array_equal(q.mean, WRONG.mean)
  np.testing.assert_array_equal(q.log_scale, WRONG.log_scale)


def test_path_ends_where_refine_ends():
  """With the exact bound the path's last value is the bound of the refined posterior."""

  def exact(model, params, q, x, rng):
    difference = jnp.sum((q.mean - EXACT.mean) ** 2 + (q.log_scale - EXACT.log_scale) ** 2)
    return LOG_EVIDENCE - difference

  arguments = (Refinement(30, optax.adam(0.05), exact), MODEL, PARAMS, WRONG, X)
  path = refinement_path(*arguments, jax.random.key(0))
  q = refine(*arguments, jax.random.key(0))
  assert path.shape == (31,)
  # 30 steps of Adam in two programs
  assert path[0] == pytest.approx(float(exact(None, None, WRONG, None, None)), rel=1e-5)
  assert path[-1] == pytest.approx(float(exact(None, None, q, None, None)), rel=1e-5)
  assert path[-1] > path[0]


def test_path_is_evaluated_with_keys_of_its_own():
  """A bound that is its noise: none is that of a step, and no two are the same."""
  noise = lambda model, params, q, x, rng: jax.random.uniform(rng) + 0 * jnp.sum(q.mean)
  rng = jax.random.key(0)
  path = refinement_path(Refinement(30, optax.adam(0.05), noise), MODEL, PARAMS, WRONG, X, rng)
  of_steps = [float(jax.random.uniform(jax.random.fold_in(rng, i))) for i in range(31)]
  assert len({*np.asarray(path).tolist(), *of_steps}) == 62


def test_antithetic_loss_is_the_loss_with_less_noise():
  """The same mean within 5 standard errors, value and gradient; no noise at the exact posterior."""
  x, rngs = X, jax.random.split(jax.random.key(20), 4000)

  def sample(loss, q):
    one = jax.value_and_grad(lambda q, rng: loss(MODEL, PARAMS, q, x, rng, 0.7)[0])
    values, slopes = jax.jit(jax.vmap(one, in_axes=(None, 0)))(q, rngs)
    return np.column_stack([values, slopes.mean, slopes.log_scale])

  plain, paired = (sample(loss, WRONG) for loss in (posterior_loss, antithetic_loss))
  error = np.sqrt((plain.var(axis=0) + paired.var(axis=0)) / len(rngs))
  np.testing.assert_array_less(np.abs(plain.mean(axis=0) - paired.mean(axis=0)), 5 * error + 1e-4)
  one = jax.grad(lambda q, rng: antithetic_loss(MODEL, PARAMS, q, x, rng, 1.0)[0])
  slopes = jax.jit(jax.vmap(one, in_axes=(None, 0)))(EXACT, rngs)
  np.testing.assert_allclose(np.column_stack([slopes.mean, slopes.log_scale]), 0, atol=2e-3)
  scale = np.abs(sample(posterior_loss, EXACT)[:, 1:]).max()
  assert scale > 1  # where one draw is far from that


def test_antithetic_draws_are_mirror_images():
  pair = WRONG.antithetic_pair(jax.random.key(0))
  ulp = np.spacing(np.abs(pair).max())
  np.testing.assert_allclose(pair.mean(axis=0), WRONG.mean, rtol=0, atol=8 * ulp)
  assert_within_ulps(pair[0], WRONG.sample_and_log_prob(jax.random.key(0))[0], 8)


def test_estimators_are_refused_by_name():
  with pytest.raises(
    ValueError, match="unknown estimator 'paired'; one of standard, antithetic, entropy"
  ):
    bound_loss(MODEL, None, 'paired')
  full = posteriors.make('full_covariance').posterior(
    {}, {'mean': jnp.zeros(2), 'log_var': jnp.zeros(2), 'below_diagonal': jnp.zeros(1)}
  )
  with pytest.raises(ValueError, match='needs the mean-field Gaussian family'):
    antithetic_loss(MODEL, PARAMS, full, X, jax.random.key(0), 1.0)


def test_entropy_loss_is_its_definition(x64):
  """-(log p(x, z) - beta log q(z)) of the draw, written out; so is its slope in q."""
  model = linear_gaussian.make(data_dim=4, latent_dim=2, noise_scale=NOISE)
  params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), PARAMS)
  q = DiagonalGaussian(*(jnp.asarray(a, jnp.float64) for a in WRONG))
  x, rng, beta = jnp.asarray(X, jnp.float64), jax.random.key(21), 0.3
  (loss, metrics), slope = jax.value_and_grad(
    lambda q: bounds.entropy_loss(model, params, q, x, rng, beta), has_aux=True
  )(q)
  scale = np.exp(q.log_scale)
  z = np.asarray(q.sample_and_log_prob(rng)[0])
  log_prob = stats.norm.logpdf(z, q.mean, scale).sum()
  error = x - params['bias'] - params['weight'] @ z
  log_joint = stats.norm.logpdf(error, scale=NOISE).sum() + stats.norm.logpdf(z).sum()
  assert loss == pytest.approx(beta * log_prob - log_joint, rel=1e-12)
  assert metrics['elbo'] == pytest.approx(log_joint - log_prob, rel=1e-12)
  assert metrics['kl'] == pytest.approx(log_prob - stats.norm.logpdf(z).sum(), rel=1e-12)
  of_z = z - params['weight'].T @ error / NOISE**2  # and log q of its own draw is -sum log_scale
  np.testing.assert_allclose(slope.mean, of_z, rtol=1e-10)
  np.testing.assert_allclose(slope.log_scale, of_z * (z - q.mean) - beta, rtol=1e-10)


def test_entropy_loss_at_one_is_the_elbo_of_the_draw():
  sampled, rng = MODEL._replace(standard_normal_prior=False), jax.random.key(22)
  at_one, metrics = bounds.entropy_loss(MODEL, PARAMS, WRONG, X, rng, 1.0)
  expected, same = posterior_loss(sampled, PARAMS, WRONG, X, rng, 1.0)
  # Sums of the same few terms, of up to ten nats, in another order
  np.testing.assert_allclose(at_one, expected, atol=1e-4)
  for key in ('elbo', 'kl'):
    np.testing.assert_allclose(metrics[key], same[key], atol=1e-4)
  at_zero, again = bounds.entropy_loss(MODEL, PARAMS, WRONG, X, rng, 0.0)
  assert again == metrics
  log_prob = WRONG.sample_and_log_prob(rng)[1]
  np.testing.assert_allclose(at_one - at_zero, log_prob, rtol=1e-4)
