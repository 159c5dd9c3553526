"""Average effects and population-averaged coefficients: `average`, `marginal`."""
