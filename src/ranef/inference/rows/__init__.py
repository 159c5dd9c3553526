"""What a model says of rows: fitted values, predictions, targets, integrals over new levels."""
