"""Authentication of callers, and calls to other servers: tokens, keys, host names, traces."""
