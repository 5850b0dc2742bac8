"""What knows arrays, files and processes, and nothing of models."""
