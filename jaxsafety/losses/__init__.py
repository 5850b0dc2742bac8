"""Losses as weighted sums over tokens; the unembedding is always chunked (`fused.py`)."""
