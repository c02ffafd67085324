"""Stand-ins for what `markway` is to compile; deleted when it does."""
