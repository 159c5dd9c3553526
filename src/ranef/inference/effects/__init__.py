"""Random effects: modes, their errors, joint posterior distributions."""
