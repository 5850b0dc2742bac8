"""Judges that are models: guards, run by our own forward pass on weights that a user brings."""
