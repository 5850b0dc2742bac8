"""Training methods: one package each, named in registry.METHODS."""
