"""Models of many voxels: effects of subjects with known variances at every place of a brain.

Arrays in, arrays out: effects and variances (subjects, voxels), whatever made them.

Examples
--------
>>> import numpy as np
>>> from ranef import imaging
>>> Y = np.array([[1.0, 2.0], [1.5, 0.0], [0.5, 4.0], [1.2, 1.0]])
>>> fit = imaging.mixed_effects(Y, np.full((4, 2), 0.1), np.ones((4, 1)))
>>> fit.beta.round(2), fit.tau2.round(2)
(array([[1.05, 1.75]]), array([0.08, 2.82]))
"""

from ranef.fields.imaging.enhancement import tfce
from ranef.fields.imaging.flips import Permutations, sign_flips
from ranef.fields.imaging.voxels import VoxelContrast, VoxelFit, mixed_effects

__all__ = [
    "Permutations",
    "VoxelContrast",
    "VoxelFit",
    "mixed_effects",
    "sign_flips",
    "tfce",
]
