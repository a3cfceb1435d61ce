"""Storage: the database, the log of shown cards, reports and files."""
