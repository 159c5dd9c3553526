"""Intervals: `confint`, `profile`, `bootstrap`."""
