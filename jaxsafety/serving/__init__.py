"""A model for others: conversations, directories to load."""
