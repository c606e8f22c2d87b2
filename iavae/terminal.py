"""The terminal: how far is the run, how good is it, and how long will it take?"""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[int, float, int], None]  # (epoch, mean ELBO in nats, models still training)


@contextlib.contextmanager
def stage_progress(console: Console, name: str, num_models: int, total: int) -> Iterator[Report]:
  """A progress bar of one stage; without a terminal, one line when the stage is over.

  Yields:
    report(epoch, elbo, active), to be called as often as there is news.
  """
  progress = Progress(
    TextColumn(f'[bold]{name:<10}[/] {num_models:>3} models'),
    BarColumn(bar_width=24),
    TextColumn('{task.fields[state]}'),
    TimeElapsedColumn(),
    TextColumn('at most'),
    TimeRemainingColumn(),
    TextColumn('left'),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )
  last = 'compiling'
  with progress:
    task = progress.add_task(name, total=total, state=last)

    def report(epoch: int, elbo: float, active: int) -> None:
      nonlocal last
      if epoch == 0:  # nothing has been trained yet
        return
      last = f'epoch {epoch}/{total}  ELBO {elbo:8.3f}  {active} training'
      progress.update(task, completed=epoch, state=last)

    yield report
  console.print(f'[bold]{name:<10}[/] {num_models:>3} models  {last}', highlight=False)
