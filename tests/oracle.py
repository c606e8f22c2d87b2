"""Exact answers by brute force, written without any of the package's code."""

import numpy as np


def joint_grid(x, noise_scale, half_width=1.5, num_nodes=1501):
  """log p(x, z) on a fine grid of z around x[:2]: (z1 [n], z2 [n], log joint [n, n])."""
  z1 = x[0] + np.linspace(-half_width, half_width, num_nodes)
  z2 = x[1] + np.linspace(-half_width, half_width, num_nodes)
  a, b = np.meshgrid(z1, z2, indexing='ij')
  squares = (x[0] - a) ** 2 + (x[1] - b) ** 2 + (x[2] - a - b - a * b) ** 2
  log_joint = -0.5 * squares / noise_scale**2 - 3 * np.log(noise_scale * np.sqrt(2 * np.pi))
  return z1, z2, log_joint - 0.5 * (a**2 + b**2) - np.log(2 * np.pi)


def log_integral(log_values, *grids):
  """log of the integral of exp(log_values) by the trapezoidal rule (ends are negligible)."""
  cell = np.prod([g[1] - g[0] for g in grids])
  highest = log_values.max()
  return highest + np.log(np.exp(log_values - highest).sum() * cell)


def expected_elbo(mean, log_scale, x, noise_scale, num_nodes=60):
  """ELBO of a diagonal Gaussian by 2-D Gauss-Hermite quadrature, exact for polynomials."""
  nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
  weights = weights / weights.sum()
  scale = np.exp(log_scale)
  a = (mean[0] + scale[0] * nodes)[:, None]
  b = (mean[1] + scale[1] * nodes)[None, :]
  squares = (x[0] - a) ** 2 + (x[1] - b) ** 2 + (x[2] - a - b - a * b) ** 2
  log_joint = -0.5 * squares / noise_scale**2 - 3 * np.log(noise_scale * np.sqrt(2 * np.pi))
  log_joint = log_joint - 0.5 * (a**2 + b**2) - np.log(2 * np.pi)
  entropy = np.sum(log_scale) + np.log(2 * np.pi * np.e)
  return float(weights @ log_joint @ weights + entropy)
