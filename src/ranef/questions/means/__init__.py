"""Marginal means and what is asked of them: `emmeans`, `contrasts`, `emtrends`, `joint_tests`."""
