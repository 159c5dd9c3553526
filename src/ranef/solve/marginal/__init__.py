"""Estimating equations of marginal models: clusters, working correlations, sandwiches."""
