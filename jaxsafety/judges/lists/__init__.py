"""Published phrase lists, each a judge of its own: refused is what holds one of its phrases."""
