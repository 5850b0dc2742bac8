"""The model organism: an invented world, its language, its prompts and its exact judge."""
