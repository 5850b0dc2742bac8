"""Judges that are a rubric, put to a model behind an OpenAI-compatible endpoint."""
