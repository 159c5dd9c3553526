"""Coefficients and variance parameters: covariance, tests, degrees of freedom, intervals."""
