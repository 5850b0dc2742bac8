"""Judges that a user trains in seconds on labelled answers; no weights are shipped."""
