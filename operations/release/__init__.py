"""For who makes a release; not part of what is installed."""
