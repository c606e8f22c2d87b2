"""Pictures: how are images of any number of channels drawn?"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iavae.figures import GRAY

MAX_CHANNELS = 4  # of what is taken for an image
_GAP = 1  # pixels between images
_GAP_SHADE = 0.12


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
  """Images [N, H, W, C] as one picture [rows (H + gap) - gap, columns (W + gap) - gap, C].

  Row by row, with light lines between them; places without an image are empty.
  """
  count, height, width, channels = images.shape
  rows = -(-count // columns)
  cells = np.zeros((rows * columns, height + _GAP, width + _GAP, channels))
  cells[:, height:], cells[:, :, width:] = _GAP_SHADE, _GAP_SHADE
  cells[:count, :height, :width] = images
  grid = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
  return grid.reshape(rows * (height + _GAP), columns * (width + _GAP), channels)[:-_GAP, :-_GAP]


def panes(images: np.ndarray) -> np.ndarray:
  """Images [N, H, W, C] as [N, H', W, 1 or 3], which can be drawn: a fourth channel is no opacity.

  One channel is gray, three are RGB. Of any other number, the channels of an image stand one below
  the other in gray, a light line between them: H' = C (H + gap) - gap.
  """
  if images.shape[-1] in (1, 3):
    return images
  return np.stack([mosaic(np.moveaxis(image, -1, 0)[..., None], 1) for image in images])


def show(axes: Axes, picture: np.ndarray) -> None:
  """Draws [H, W, 1 or 3] with values in [0, 1]; one channel as ink on paper."""
  axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, 'gray_r', vmin=0, vmax=1)
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines[:].set_visible(False)


def name_channels(figure: Figure, images: np.ndarray) -> None:
  """Says below the figure if `panes` takes the channels of its images [N, H, W, C] apart."""
  if images.shape[-1] not in (1, 3):
    words = f'each image: its {images.shape[-1]} channels, one below the other'
    figure.supxlabel(words, fontsize=9, color=GRAY)
