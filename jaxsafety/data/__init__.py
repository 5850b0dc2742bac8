"""Tokenizers, chat templates and the structs that flow between data, samplers and losses."""
