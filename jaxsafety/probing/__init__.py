"""Finding the refusal direction (stage A) and the safety tokens (stage C) of SafeSteer."""
