"""HTTP over the daemon: the same verbs and nouns as the command line."""
