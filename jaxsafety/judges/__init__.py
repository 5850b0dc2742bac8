"""Judges for real models: rules on text. The organism brings its own exact judge."""
