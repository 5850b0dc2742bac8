"""Low-rank adapters as plain arrays, derived from the einsum equation of each projection."""
