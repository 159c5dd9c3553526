"""One regression, two stories: what a pooled slope says, and what it mixes."""
