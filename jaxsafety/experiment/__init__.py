"""One experiment on disk: config, setting, workdir, run."""
