"""Effects with known sampling variances: how much the true effects differ, from arrays alone."""
