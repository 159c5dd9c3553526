"""Models of many voxels: their numbers, and what is asked of them; `ranef.imaging` is the face."""
