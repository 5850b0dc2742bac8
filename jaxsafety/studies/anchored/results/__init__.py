"""What a finished study says, as numbers: pure functions over its artifacts, without a picture."""
