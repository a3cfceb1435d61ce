"""What one request, one client and one neighbour may take: time, memory, calls at once."""
