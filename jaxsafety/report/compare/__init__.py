"""Runs and measurements beside each other: what can be compared, and by how much they differ."""
