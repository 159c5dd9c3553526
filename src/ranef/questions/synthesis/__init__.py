"""Questions asked of effects with known sampling variances: influence, asymmetry, permutations."""
