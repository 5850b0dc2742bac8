"""Questions about a method: programs of many arms, which serve no model."""
