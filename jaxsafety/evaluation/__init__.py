"""Measuring a model: generations on disk, verdicts, records."""
