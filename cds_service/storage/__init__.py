"""What is kept: the database, the log of cards that were shown, reports and files."""
