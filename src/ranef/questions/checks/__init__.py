"""Does the model hold, and on what does it rest? `check`, `influence`, `leverage`, residuals."""
