"""DPO: learning that of two answers one is preferred (arXiv 2305.18290)."""
