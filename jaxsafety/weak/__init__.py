"""Weak supervision: noisy sources of labels, how good each is, and one soft label an answer."""
