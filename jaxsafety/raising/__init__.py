"""How the shipped organisms were made, and the limits they had to keep."""
