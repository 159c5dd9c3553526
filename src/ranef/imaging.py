"""Groups of brain images: every subject's effect, weighted by how well it was measured.

`MixedEffectsSecondLevel` takes images (NIfTI, GIfTI, CIFTI, .mgh) as nilearn's second level does;
`mixed_effects`, `sign_flips` and `tfce` take arrays, whatever made them.

Examples
--------
>>> import numpy as np
>>> from ranef import imaging
>>> Y = np.array([[1.0, 2.0], [1.5, 0.0], [0.5, 4.0], [1.2, 1.0]])
>>> fit = imaging.mixed_effects(Y, np.full((4, 2), 0.1), np.ones((4, 1)))
>>> fit.beta.round(2), fit.tau2.round(2)
(array([[1.05, 1.75]]), array([0.08, 2.82]))
"""

from ranef.elsewhere import explained as _explained
from ranef.elsewhere import module_getattr as _module_getattr
from ranef.fields.imaging.clusters import ClusterTable
from ranef.fields.imaging.comparing import ThreeModels
from ranef.fields.imaging.enhancement import tfce as _tfce
from ranef.fields.imaging.flips import Permutations
from ranef.fields.imaging.flips import sign_flips as _sign_flips
from ranef.fields.imaging.fsl import read_design as _read_design
from ranef.fields.imaging.longitudinal import LongitudinalModel, VoxelMixedFit
from ranef.fields.imaging.longitudinal import lmm as _lmm
from ranef.fields.imaging.people import SubjectReport
from ranef.fields.imaging.reading import surface_neighbours as _surface_neighbours
from ranef.fields.imaging.second_level import MixedEffectsSecondLevel
from ranef.fields.imaging.voxels import VoxelContrast, VoxelFit
from ranef.fields.imaging.voxels import mixed_effects as _mixed_effects

lmm = _explained(_lmm)
mixed_effects = _explained(_mixed_effects)
read_design = _explained(_read_design)
sign_flips = _explained(_sign_flips)
surface_neighbours = _explained(_surface_neighbours)
tfce = _explained(_tfce)

__all__ = [
    "ClusterTable",
    "LongitudinalModel",
    "MixedEffectsSecondLevel",
    "Permutations",
    "SubjectReport",
    "ThreeModels",
    "VoxelContrast",
    "VoxelFit",
    "VoxelMixedFit",
    "lmm",
    "mixed_effects",
    "read_design",
    "sign_flips",
    "surface_neighbours",
    "tfce",
]

__getattr__ = _module_getattr("ranef.imaging", __all__)
