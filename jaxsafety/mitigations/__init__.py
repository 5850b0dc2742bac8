"""What makes training safer whatever method trains: one file each, chained by `chain.py`."""
