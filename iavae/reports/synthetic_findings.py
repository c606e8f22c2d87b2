"""What do the results of the synthetic experiment say, in plain sentences?

They come out right whichever way the numbers fall.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from iavae import paper
from iavae.paper import EQUAL_WITHIN
from iavae.reports.synthetic_tables import LABELS
from iavae.tables import Results, joined, number


def findings(results: Results) -> list[str]:
  """What the numbers say in plain sentences; ELBOs are true ones of median models, nats.

  What the config skipped is left out. Differences below `EQUAL_WITHIN` count as none.
  """
  controls = results.get('controls') or {}
  elbo = {name: control['elbo_median'] for name, control in controls.items()}
  said = (
    _stand_in(results['provenance']['config']),
    _gap_closed(results['references']),
    _adaptivity(elbo),
    _efficiency(elbo, controls),
    paper.width_finding(results),
    _steps(results['refinement']),
    _unfreezing(elbo),
    _dead_bases(results['table2']),
    paper.free_finding(results),
    paper.elbo_finding(results),
  )
  return [sentence for sentence in said if sentence]


def _relation(lead: float) -> str:
  if abs(lead) < EQUAL_WITHIN:
    return f'equals it ({lead:+.2f} nats)'
  return f'{"beats" if lead > 0 else "misses"} it by {number(abs(lead))} nats'


def _gap_closed(r: Mapping[str, float]) -> str:
  before, after = r['amortization_gap_vae'], r['amortization_gap_ia_vae']
  rest = (
    f'No mean-field posterior closes the approximation gap of {number(r["approximation_gap"])}.'
  )
  if before < EQUAL_WITHIN:
    return f'The base VAE has hardly an amortization gap to close ({number(before)} nats). {rest}'
  share = f'{abs(before - after) / before:.0%}'
  verb = f'closes {share} of' if after <= before else f'widens by {share}'
  ends = f'{number(before)} to {number(after)} nats'
  return f'IA-VAE {verb} the amortization gap of its base VAE, from {ends}. {rest}'


def _adaptivity(elbo: Mapping[str, float]) -> str | None:
  tried = [name for name in ('static', 'continued') if name in elbo]
  if not tried or not elbo.keys() >= {'vae', 'ia_vae'}:
    return None
  gain = {name: elbo[name] - elbo['vae'] for name in ('ia_vae', *tried)}
  total, without_x = gain['ia_vae'], max(gain[name] for name in tried)
  if total < EQUAL_WITHIN:
    return f'IA-VAE does not gain on its base ({total:+.2f} nats): there is nothing to attribute.'
  degree = 'mostly' if total - without_x >= total / 2 else 'only partly'
  if total - without_x < EQUAL_WITHIN:
    degree = 'not'
  others = joined([f'the {LABELS[name]} {gain[name]:+.2f}' for name in tried])
  return f'The gain is {degree} instance-adaptive: IA-VAE gains {total:+.2f} nats, {others}.'


def _efficiency(elbo: Mapping[str, float], controls: Mapping[str, Any]) -> str | None:
  tried = [name for name in ('relu', 'silu', 'glu') if name in elbo]
  if not tried or 'ia_vae' not in elbo:
    return None
  lead = {name: elbo[name] - elbo['ia_vae'] for name in tried}
  size = {name: int(controls[name]['num_parameters']) for name in ('ia_vae', *tried)}
  each = joined([f'the {LABELS[name]} ({size[name]}) {_relation(lead[name])}' for name in tried])
  reached = [name for name in tried if lead[name] > -EQUAL_WITHIN]
  if not reached:
    end = 'the claim of parameter efficiency holds against every activation tried.'
  elif 'relu' in reached:
    end = 'the claim of parameter efficiency does not hold, not even within ReLU encoders.'
  else:
    end = 'the claim of parameter efficiency is at most one about ReLU encoders.'
  return f'With the training budget of IA-VAE ({size["ia_vae"]} parameters), {each}: {end}'


def _stand_in(config: Mapping[str, Any]) -> str | None:
  method = config.get('method', 'instance_adaptive')
  if method == 'instance_adaptive':
    return None
  return f"What is named IA-VAE here was adapted by the method {method}, not by the paper's."


def _steps(r: Mapping[str, Any]) -> str | None:
  if not r['num_steps']:
    return None
  goal = r['ia_vae'][0]
  enough = [i for i, elbo in enumerate(r['vae']) if elbo >= goal]
  steps = r['num_steps']
  if not enough:
    worth = f'more than the {steps[-1]} tried'
  elif enough[0] == 0:
    worth = 'none: the VAE starts no lower'
  else:
    worth = f'more than {steps[enough[0] - 1]} and at most {steps[enough[0]]}'
  return f'In gradient steps on the posterior of the VAE at test time, IA-VAE is worth {worth}.'


def _unfreezing(elbo: Mapping[str, float]) -> str | None:
  if not elbo.keys() >= {'unfrozen', 'ia_vae'}:
    return None
  change = elbo['unfrozen'] - elbo['ia_vae']
  verdict = 'changes little' if abs(change) < EQUAL_WITHIN else 'helps' if change > 0 else 'hurts'
  return f'Training the base together with the hypernetwork {verdict} ({change:+.2f} nats).'


def _dead_bases(rows: Sequence[Mapping[str, Any]]) -> str:
  dead = [i for i, row in enumerate(rows) if row['vae']['dead_units']]
  if not dead:
    return f'None of the {len(rows)} base VAEs has a dead hidden unit.'
  elbos = ((i, rows[i]['vae']['elbo'], rows[i]['ia_vae']['elbo_mean']) for i in dead)
  each = [f'base {i} reaches {number(vae)}, its IA-VAEs {number(ia)}' for i, vae, ia in elbos]
  return f'A hidden unit is dead in {len(dead)} of {len(rows)} base VAEs: {joined(each)} nats.'
