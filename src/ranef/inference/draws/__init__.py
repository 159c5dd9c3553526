"""Drawing: responses, parameters, random effects, and refits to what was drawn."""
