"""The clinical content: its schema, how it is loaded, and the indexes that a request uses."""
