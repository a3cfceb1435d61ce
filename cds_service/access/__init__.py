"""Who may call, and how the service calls others: tokens, keys, names of hosts, traces."""
