"""Tests: `anova`, `variance_test`, robust covariances."""
