"""How fast the service is, beside the floor under it, in one run."""
