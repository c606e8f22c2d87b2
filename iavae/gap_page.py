"""The gap report of models that were not made here: tables, histograms and pictures on one page."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from iavae import gap_inputs, paths, provenance, report
from iavae.errors import ConfigError
from iavae.gaps import Gaps
from iavae.workdir import write_arrays, write_text


def write(found: Mapping[str, Gaps], x: np.ndarray, directory: str | pathlib.Path) -> pathlib.Path:
  """Leaves results.json, per_example.npz, figures and report.html in a directory; returns the page.

  Args:
    found: what `gaps.inference_gaps` says of each encoder, by a name in words.
    x: [N, ...], the examples; [N, H, W] or [N, H, W, C], C up to 4, are shown, the worst first:
      bytes as 0..255, others as 0..1, or from their least to their largest if they leave that.
    directory: made if it is not there; `~` is the home directory.

  Raises:
    ValueError: for no encoder, not the examples that were measured, or no local directory.
  """
  x = gap_inputs.as_examples(x)
  if not found or any(gaps.summary['num_examples'] != len(x) for gaps in found.values()):
    raise ValueError('found and x are to be of the same examples, and found not empty')
  arrays = {f'{name}/{k}': v for name, gaps in found.items() for k, v in gaps.per_example.items()}
  images = _shown(x[..., None] if x.ndim == 3 else x)
  if images.ndim == 4 and images.shape[-1] <= 4:
    arrays |= {f'{name}/worst': images[gaps.summary['worst']] for name, gaps in found.items()}
  results = {
    'report': 'gaps',
    'subjects': [{'name': name, 'split': ''} | gaps.summary for name, gaps in found.items()],
    'data': {'name': f'{len(x)} examples'},
    'seconds': {name: sum(gaps.summary['seconds'].values()) for name, gaps in found.items()},
    'provenance': provenance.describe(ConfigDict({'seed': 'of the key that was given'})),
  }
  try:
    directory = paths.local(str(directory), 'directory')
  except ConfigError as error:
    raise ValueError(str(error)) from None
  directory.mkdir(parents=True, exist_ok=True)
  write_arrays(directory / 'per_example.npz', arrays)
  write_text(directory / 'results.json', json.dumps(results, indent=2, allow_nan=False) + '\n')
  return report.write(directory)


def _shown(x: np.ndarray) -> np.ndarray:
  """Intensities in 0..1, of floats; bytes of 0 and 1 are binary images."""
  finite = x[np.isfinite(x)].astype(float)
  low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
  if 0 <= low and high <= 1:
    return x.astype(float)
  if x.dtype == np.uint8:
    return x / 255
  return (x.astype(float) - low) / max(high - low, 1e-12)
