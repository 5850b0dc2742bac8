"""Model directories: reading, writing, adapters, where a model lies."""
