"""The search for q* against models whose best mean-field posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from iavae import optimum
from iavae.models import linear_gaussian, synthetic
from iavae.optimum import Search
from iavae.posteriors import auxiliary
from iavae.posteriors.gaussian import DiagonalGaussian, standard_normal
from rounding import assert_within_ulps

NOISE = 0.5
CORRELATED = linear_gaussian.make(8, 4, NOISE, orthogonal=False)
PARAMS = CORRELATED.init(jax.random.key(0))
QUICK = Search(num_steps=600, num_samples=8, learning_rate=3e-2, num_averaged=100)
X = jax.vmap(lambda rng: CORRELATED.sample(PARAMS, jax.random.normal(rng, (4,)), rng))(
  jax.random.split(jax.random.key(1), 16)
)


def target_of(x):
  return lambda z: CORRELATED.log_prior(PARAMS, z) + CORRELATED.log_likelihood(PARAMS, x, z)


def flow_for(x, rng):
  """A flow that is not the identity, near the best posterior of x."""
  q = auxiliary.local(linear_gaussian.posterior(PARAMS, x, NOISE), rng, hidden=5)
  noise = lambda leaf: leaf + 0.1 * jax.random.normal(rng, leaf.shape)
  return q._replace(flow=jax.tree.map(noise, q.flow))


def test_the_best_mean_field_posterior_of_a_correlated_gaussian_is_found():
  """p(z | x) is out of reach; what the exact ELBO of the result lacks is below .005 nats."""

  def one(x, rng):
    best = linear_gaussian.posterior(PARAMS, x, NOISE)
    found = optimum.best_from(QUICK, target_of(x), (standard_normal(4),), rng)
    value = lambda q: linear_gaussian.elbo(q, PARAMS, x, NOISE)
    return value(best) - value(found), linear_gaussian.log_evidence(PARAMS, x, NOISE) - value(best)

  missed, gap = jax.jit(jax.vmap(one))(X, jax.random.split(jax.random.key(2), 16))
  assert np.all(gap > 0.2)
  assert np.all(missed > -1e-4) and np.mean(missed) < 0.005


def test_the_best_mean_field_posterior_of_the_synthetic_model_is_found():
  model, longer = synthetic.make(), QUICK._replace(num_steps=3000)

  def one(rng):
    x = model.sample({}, jax.random.normal(rng, (2,)), rng)
    target = lambda z: synthetic.log_joint_density(x, z)
    found = optimum.best_from(longer, target, (standard_normal(2),), rng)
    return synthetic.elbo(synthetic.optimal_posterior(x), x) - synthetic.elbo(found, x)

  missed = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), 32))
  assert np.mean(missed) < 0.005 and np.max(missed) < 0.05


def test_of_two_starts_the_one_below_the_higher_mode_wins():
  """A mixture of two far modes, .9 and .1: from the wrong one the search does not get away."""

  def target(z):
    modes = [jnp.sum(norm.logpdf(z, center, 0.3)) for center in (-3.0, 3.0)]
    return jnp.logaddexp(jnp.log(0.1) + modes[0], jnp.log(0.9) + modes[1])

  starts = [DiagonalGaussian(jnp.full(2, m), jnp.full(2, -1.0)) for m in (-3.0, 3.0)]
  find = jax.jit(lambda starts: optimum.best_from(QUICK, target, starts, jax.random.key(4)))
  np.testing.assert_allclose(find(starts[:1]).mean, -3, atol=0.02)
  for order in (starts, starts[::-1]):
    np.testing.assert_allclose(find(order).mean, 3, atol=0.02)


def test_cremers_own_search_stops_near_the_best_but_not_as_near():
  """Its constant rate and its noisier gradient leave up to .05 nats, ours less than half of it."""

  def one(x, rng):
    best = linear_gaussian.posterior(PARAMS, x, NOISE)
    target, start = target_of(x), standard_normal(4)
    theirs = optimum.search_as_cremer(target, start, rng)
    ours = optimum.best_from(Search(num_steps=1500), target, (start,), rng)
    value = lambda q: linear_gaussian.elbo(q, PARAMS, x, NOISE)
    return value(best) - value(theirs), value(best) - value(ours)

  theirs, ours = jax.jit(jax.vmap(one))(X[:6], jax.random.split(jax.random.key(14), 6))
  assert 1e-4 < np.mean(theirs) < 0.05
  assert np.mean(ours) < 0.5 * np.mean(theirs)


def test_an_odd_number_of_draws_is_refused():
  start = standard_normal(4)
  with pytest.raises(ValueError, match='num_samples=3 is not even'):
    optimum.elbo(target_of(X[0]), start, jax.random.key(0), 3)


def test_fewer_steps_than_are_averaged_are_no_more_than_asked_for():
  """One step of Adam moves every entry by its rate."""
  start = standard_normal(4)
  once = Search(num_steps=1, learning_rate=1e-3)
  found = jax.jit(lambda: optimum.search(once, target_of(X[0]), start, jax.random.key(0)))()
  np.testing.assert_allclose(jnp.abs(found.mean), 1e-3, rtol=1e-2)


def test_a_search_that_gets_lost_returns_its_start():
  lost = Search(num_steps=20, num_samples=2, learning_rate=1e4, num_averaged=5)
  start = linear_gaussian.posterior(PARAMS, X[0], NOISE)
  found = optimum.search(lost, target_of(X[0]), start, jax.random.key(5))
  jax.tree.map(np.testing.assert_array_equal, found, start)


def test_the_gradient_has_no_noise_at_the_posterior():
  """Path derivative: where q = p(z | x) every draw has the same gradient, zero."""
  model = linear_gaussian.make(4, 2, NOISE)
  params = model.init(jax.random.key(6))
  x = jnp.array([0.3, 1.0, -0.4, 0.2])
  q = linear_gaussian.posterior(params, x, NOISE)
  target = lambda z: model.log_prior(params, z) + model.log_likelihood(params, x, z)
  slope = jax.grad(lambda q, rng: optimum.elbo(target, q, rng, 2))
  for i in range(5):
    for leaf in jax.tree.leaves(slope(q, jax.random.key(i))):
      np.testing.assert_allclose(leaf, 0, atol=2e-4)


@pytest.mark.parametrize('family', ['gaussian', 'flow'])
def test_the_path_derivative_is_the_gradient_in_expectation(family):
  """4,000 pairs of draws, every entry within 5 standard errors of its difference."""
  x, target = X[0], target_of(X[0])
  q = flow_for(x, jax.random.key(7))
  q = q if family == 'flow' else q.base._replace(mean=q.base.mean + 0.3)

  def plain(q, rng):
    z, log_prob = q.sample_and_log_prob(rng)
    return target(z) - log_prob

  def path(q, rng):
    return optimum.elbo(target, q, rng, 2)

  rngs = jax.random.split(jax.random.key(8), 4000)
  a, b = (jax.jit(jax.vmap(jax.grad(bound), (None, 0)))(q, rngs) for bound in (plain, path))
  for plain_leaf, path_leaf in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    difference = np.asarray(plain_leaf - path_leaf, np.float64)
    error = difference.std(0) / np.sqrt(4000)
    assert np.all(np.abs(difference.mean(0)) <= 5 * error + 1e-5)


def test_mirrored_draws_of_a_flow_have_the_densities_of_its_draws():
  q, rng = flow_for(X[0], jax.random.key(9)), jax.random.key(10)
  z, log_prob = q.mirrored_draws(rng)
  first, expected = q.sample_and_log_prob(rng)
  assert_within_ulps(z[0], first, 32)
  np.testing.assert_allclose(log_prob[0], expected, rtol=1e-4, atol=1e-4)


def test_the_inverse_of_a_flow_undoes_it_and_its_determinant_is_the_jacobians(x64):
  q = jax.tree.map(lambda a: a.astype(jnp.float64), flow_for(X[0], jax.random.key(11)))
  noise = jax.random.normal(jax.random.key(12), (2, 4))
  pair, log_det = q.transform(noise)
  again, log_det_back = q.inverse(pair)
  np.testing.assert_allclose(again, noise, rtol=1e-9, atol=1e-9)
  jacobian = jax.jacobian(lambda n: q.transform(n.reshape(2, 4))[0].ravel())(noise.ravel())
  expected = np.linalg.slogdet(jacobian)[1]
  np.testing.assert_allclose([log_det, log_det_back], expected, rtol=1e-9)


class PlainFlow(auxiliary.AuxiliaryFlow):
  """The same without `mirrored_draws`: its gradient is the draw's, with the score."""

  mirrored_draws = property()


def test_a_local_flow_starts_as_its_gaussian_and_gets_beyond_by_the_path_derivative():
  """At the start the bound is the Gaussian's; the search closes most of its gap, and leaves less
  than half of what it leaves without the path derivative."""
  options = Search(num_steps=1500, num_samples=8, num_averaged=200, max_norm=10.0)

  def one(x, rng):
    best = linear_gaussian.posterior(PARAMS, x, NOISE)
    start = auxiliary.local(best, rng, hidden=16)
    found, plain = (
      optimum.search(options, target_of(x), q, rng) for q in (start, PlainFlow(*start))
    )
    value = lambda q: optimum.elbo(target_of(x), q, rng, 4000)
    evidence = linear_gaussian.log_evidence(PARAMS, x, NOISE)
    return [evidence - value(q) for q in (best, start, found, plain)]

  gaps = jax.jit(jax.vmap(one))(X[:6], jax.random.split(jax.random.key(13), 6))
  gaussian, start, found, plain = map(np.asarray, gaps)
  np.testing.assert_allclose(start, gaussian, atol=0.02)
  assert np.all(found < 0.35 * gaussian) and np.all(found > -0.02)
  assert found.mean() < 0.5 * plain.mean()


def test_only_the_reverse_model_of_a_flow_has_noise_at_the_posterior():
  """Where q = p(z | x) and the bound is tight, all other leaves have the gradient zero."""
  model = linear_gaussian.make(4, 2, NOISE)
  params = model.init(jax.random.key(6))
  x = jnp.array([0.3, 1.0, -0.4, 0.2])
  target = lambda z: model.log_prior(params, z) + model.log_likelihood(params, x, z)
  q = auxiliary.local(linear_gaussian.posterior(params, x, NOISE), jax.random.key(15), hidden=5)
  slope = jax.grad(lambda q, rng: optimum.elbo(target, q, rng, 2))(q, jax.random.key(16))
  noise = {name: jax.tree.leaves(leaves) for name, leaves in slope.flow.items()}
  assert all(np.max(np.abs(leaf)) > 0.01 for leaf in noise.pop('reverse'))
  for leaf in jax.tree.leaves((slope.base, noise)):
    np.testing.assert_allclose(leaf, 0, atol=1e-4)


def test_the_reverse_model_takes_smaller_steps():
  """The first step of Adam moves every entry that has a gradient by its rate."""
  q = flow_for(X[0], jax.random.key(17))
  once = Search(num_steps=1, learning_rate=1e-3)
  find = jax.jit(lambda q: optimum.search(once, target_of(X[0]), q, jax.random.key(0)))
  moved = jax.tree.map(lambda a, b: np.median(np.abs(a - b)), find(q).flow, q.flow)
  rates = {name: network['output']['bias'] for name, network in moved.items()}
  expected = {name: 3e-4 if name == 'reverse' else 1e-3 for name in rates}
  assert rates == pytest.approx(expected, rel=1e-2)
