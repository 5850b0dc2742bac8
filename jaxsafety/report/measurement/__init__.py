"""The page and the tables of `jaxsafety eval`: models on sets, by judges side by side."""
