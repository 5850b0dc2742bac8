"""Decoder-only models behind one object of plain functions; only here is flax.linen known."""
