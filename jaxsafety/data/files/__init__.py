"""People's files: layouts, columns and rows, read into dialogues and items."""
