"""The command line: verbs without logic of their own."""
