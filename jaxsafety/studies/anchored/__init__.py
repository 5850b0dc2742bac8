"""Mitigations compared where they reach the same goal: a study of many arms."""
