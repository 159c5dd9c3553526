"""Models chosen by what they are for."""
