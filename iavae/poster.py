"""Which numbers did Cremer, Li and Duvenaud publish of inference suboptimality?

Table 1 of their poster (arXiv:1801.03558), nats. Columns by our names of data sets and models;
levels by our names: log p-hat(x), L[q*_Flow], L[q*_FFG], L[q].
"""

from collections.abc import Mapping

LEVELS = ('log_evidence', 'elbo_optimal_flow', 'elbo_optimal', 'elbo')

TABLE1 = {
  'mnist': {
    'regular_ffg': (-89.85, -90.83, -91.19, -92.76),
    'regular_flow': (-88.82, -90.40, -102.88, -91.42),
    'large_ffg': (-89.09, -90.05, -90.34, -91.12),
    'large_flow': (-88.59, -90.26, -103.53, -91.25),
    'noanneal_ffg': (-89.84, -90.89, -91.02, -94.31),
    'noanneal_flow': (-89.41, -90.78, -92.34, -94.29),
  },
  'fashion_mnist': {
    'regular_ffg': (-97.78, -98.03, -99.03, -103.20),
    'regular_flow': (-97.35, -97.74, -130.90, -102.19),
    'large_ffg': (-94.55, -95.93, -98.09, -101.28),
    'large_flow': (-96.16, -96.87, -129.24, -100.60),
    'noanneal_ffg': (-100.56, -100.74, -101.26, -103.63),
    'noanneal_flow': (-100.33, -100.61, -102.80, -104.05),
  },
}

# (approximation, amortization, inference gap), as printed
TABLE1_GAPS = {
  'mnist': {
    'regular_ffg': (1.34, 1.57, 2.91),
    'regular_flow': (1.58, 1.02, 2.60),
    'large_ffg': (1.25, 0.78, 2.03),
    'large_flow': (1.67, 0.99, 2.66),
    'noanneal_ffg': (1.18, 3.29, 4.47),
    'noanneal_flow': (1.37, 3.51, 4.88),
  },
  'fashion_mnist': {
    'regular_ffg': (1.25, 4.17, 5.42),
    'regular_flow': (0.39, 4.45, 4.84),
    'large_ffg': (3.54, 3.19, 6.73),
    'large_flow': (0.71, 3.73, 4.44),
    'noanneal_ffg': (0.70, 2.37, 3.07),
    'noanneal_flow': (0.28, 3.44, 3.72),
  },
}

# How its images are made; another way moves all values
PROTOCOLS = {'mnist': 'static', 'fashion_mnist': 'threshold'}


def levels(dataset: str, protocol: str, model: str) -> Mapping[str, float] | None:
  """The LEVELS of a published column, nats; None where there is none for such images."""
  column = TABLE1.get(dataset, {}).get(model)
  if column is None or PROTOCOLS[dataset] != protocol:
    return None
  return dict(zip(LEVELS, column, strict=True))
