"""The server, its telemetry and its pages."""
