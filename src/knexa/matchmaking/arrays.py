"""Names for the arrays of this room; what the axes of one are, the suffix of its name says."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
