"""Public sets, one file each: columns, known files, licence, source (`registry.SETS`)."""
