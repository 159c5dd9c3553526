"""How much is explained: `r2`, `icc`."""
