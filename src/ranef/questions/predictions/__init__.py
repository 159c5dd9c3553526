"""Predictions drawn along a predictor."""
