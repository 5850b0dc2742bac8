"""Who else is shown a run's numbers: a file per tracker (`registry.TRACKERS`, docs/trackers.md)."""
