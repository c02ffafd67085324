"""What Markway costs, beside its peers, measured in one interleaved run: `python -m bench`."""
