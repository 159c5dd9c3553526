"""Models nested in each other: how they differ, and the likelihood ratio between them."""
