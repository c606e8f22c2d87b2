"""How do the figures of all reports look: colors, axes, and the bytes of a file?

No figure touches the global state of matplotlib.
"""

import contextlib
import io
import os
import sys

# No figure needs a backend, and matplotlib is not to fail on one that this Python lacks, such as
# the one that a notebook's shell inherits
_is_new = 'matplotlib' not in sys.modules
_backend = os.environ.pop('MPLBACKEND', None)
import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

if _backend is not None:
  os.environ['MPLBACKEND'] = _backend
  if _is_new:
    with contextlib.suppress(ValueError):
      matplotlib.rcParams['backend'] = _backend

# Okabe and Ito's palette: told apart with any color vision, and in gray by lightness.
ORANGE, BLUE, SKY, RED = '#E69F00', '#0072B2', '#56B4E9', '#D55E00'
GREEN, PURPLE = '#009E73', '#CC79A7'
GRAY, INK = '#8C8C8C', '#333333'


def plain(axes: Axes) -> None:
  """Takes away from the axes what carries no number, and sets a light grid behind them."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(GRAY)
  axes.tick_params(colors=INK)
  axes.grid(color='#EBEBEB', linewidth=0.8)
  axes.set_axisbelow(True)


def skipped(text: str) -> Figure:
  """A figure that only says why there is none."""
  figure = Figure(figsize=(9, 0.8))
  figure.text(0.5, 0.5, text, ha='center', va='center', color=INK)
  return figure


def png(figure: Figure) -> bytes:
  """The figure as a PNG file; the same numbers give the same bytes."""
  buffer = io.BytesIO()
  # without the name and version of matplotlib
  figure.savefig(buffer, format='png', dpi=160, facecolor='white', metadata={'Software': None})
  return buffer.getvalue()
