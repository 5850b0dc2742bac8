"""What `jaxsafety COMMAND` does: a file each, with HELP, AFTER (a Ctrl-C), `add` and `call`."""
