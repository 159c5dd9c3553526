"""Power: how often a test rejects, of studies that are simulated from stated parameters."""
