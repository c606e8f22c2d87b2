"""The gap report of models that were not made here: tables, histograms and pictures on one page."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from iavae import provenance, report
from iavae.gaps import Gaps
from iavae.workdir import write_arrays, write_text


def write(found: Mapping[str, Gaps], x: np.ndarray, directory: str | pathlib.Path) -> pathlib.Path:
  """Leaves results.json, per_example.npz, figures and report.html in a directory; returns the page.

  Args:
    found: what `gaps.inference_gaps` says of each encoder, by a name in words.
    x: [N, ...], the examples; [N, H, W] or [N, H, W, C] in 0..1, C of 1 or 3, are
      shown, the worst first.

  Raises:
    ValueError: for no encoder, or not the examples that were measured.
  """
  x = np.asarray(x)
  if not found or any(gaps.summary['num_examples'] != len(x) for gaps in found.values()):
    raise ValueError('found and x are to be of the same examples, and found not empty')
  arrays = {f'{name}/{k}': v for name, gaps in found.items() for k, v in gaps.per_example.items()}
  images = x[..., None] if x.ndim == 3 else x
  if images.ndim == 4 and images.shape[-1] in (1, 3):
    arrays |= {f'{name}/worst': images[gaps.summary['worst']] for name, gaps in found.items()}
  results = {
    'report': 'gaps',
    'subjects': [{'name': name, 'split': ''} | gaps.summary for name, gaps in found.items()],
    'data': {'name': f'{len(x)} examples'},
    'seconds': {name: sum(gaps.summary['seconds'].values()) for name, gaps in found.items()},
    'provenance': provenance.describe(ConfigDict({'seed': 'of the key that was given'})),
  }
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_arrays(directory / 'per_example.npz', arrays)
  write_text(directory / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return report.write(directory)
