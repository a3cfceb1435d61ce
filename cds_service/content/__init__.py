"""The clinical content: its schema, how it is read, and what a request looks up in it."""
