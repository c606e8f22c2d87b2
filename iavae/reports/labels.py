"""What is a method, a control, a data set called in the reports of images?"""

from typing import NamedTuple

from iavae.tables import Results

BASE = 'base'
PAPERS = 'instance_adaptive'  # the method of the paper

METHODS = {
  'amortized': 'VAE trained on',
  'denoising': 'denoising encoder',
  'aggressive': 'aggressive training',
  'semi_amortized': 'SA-VAE',
  'adam_refined': 'Adam-refined',
  'svi': 'SVI from the prior',
  'iterative': 'iterative inference',
  'hybrid': 'VAE + steps at test time',
  'full_covariance': 'full covariance',
  'autoregressive': 'autoregressive Gaussian',
  'planar': 'planar flow',
  'radial': 'radial flow',
  'realnvp': 'RealNVP',
  'auxiliary': 'RealNVP, auxiliary variables',
  'iaf': 'IAF',
  'maf': 'MAF',
  'paper': "the paper's modulation",
  'film': 'FiLM modulation',
  'lora': 'LoRA modulation',
  'expert_kernels': 'mixture of experts',
  'trunk': 'nonlinear trunk',
  'gradient': 'gradient-reading FiLM',
  'gates': 'gate modulation',
}

# Of the plain VAE, and of the method under test
CONTROLS = {
  'continued': 'continued VAE',
  'decoder_only': 'continued decoder',
  'encoder_only': 'continued encoder',
  'static': '{} without x',
  'shuffled': "{}, another's x",
  'frozen_decoder': '{}, decoder frozen',
  'wider': 'wider VAE',
}

_DATASETS = {'omniglot': 'OMNIGLOT', 'mnist': 'MNIST', 'fashion_mnist': 'Fashion MNIST'}


class Group(NamedTuple):
  """What is compared with each other: one data set, made in one way, at one size."""

  dataset: str
  protocol: str
  preset: str

  @property
  def name(self) -> str:
    """The group in words; a preset that is not the full one is always named."""
    reduced = '' if self.preset == 'full' else f', {self.preset} preset'
    return f'{_DATASETS.get(self.dataset, self.dataset)} ({self.protocol}){reduced}'


def adapted(results: Results) -> str:
  """The method under test, as the config names it."""
  return results['provenance']['config'].get('method', PAPERS)


def is_papers(results: Results) -> bool:
  """Whether the method under test is the paper's, with its modulation."""
  modulation = results['provenance']['config'].get('modulation', 'paper')
  return adapted(results) == PAPERS and modulation == 'paper'


def is_joint(results: Results) -> bool:
  """Whether all was trained from scratch: the base is where it starts, an untrained VAE."""
  return results['provenance']['config'].get('pretrain', {}).get('num_epochs') == 0


def label(results: Results, method: str) -> str:
  """A method in words; only the paper's own is called IA-VAE."""
  main, modulation = adapted(results), results['provenance']['config'].get('modulation', 'paper')
  named = METHODS.get(main, main)
  if main == PAPERS:
    named = 'IA-VAE' if modulation == 'paper' else METHODS.get(modulation, modulation)
  known = {BASE: 'VAE (base)', **METHODS, main: named}
  if is_joint(results):
    scratch = {BASE: 'VAE, untrained', 'amortized': 'VAE, from scratch'}
    known = {name: scratch.get(name, words) for name, words in known.items()}
  known |= {control: words.format(named) for control, words in CONTROLS.items()}
  return known.get(method, method)
