"""What an experiment would take on a device that is not here."""
