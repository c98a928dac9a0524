"""Learning from labelled rows."""
