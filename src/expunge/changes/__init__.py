"""What a method returns: deltas, replacements, guards, redactions, and their history."""
