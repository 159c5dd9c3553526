"""Tables for a paper: `table`."""
