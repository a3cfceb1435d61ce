"""Who may call, and how the service calls others: keys, deadlines, concurrency."""
