"""Decoding: a jitted sampler over left-padded batches and a host helper that buckets prompts."""
