"""Architectures: how each family's config and tensors map onto the one transformer."""
