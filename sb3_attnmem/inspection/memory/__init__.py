"""A report of how far back an agent remembers."""
