"""Instance-adaptive amortized inference: pure functions for one example, in JAX."""
