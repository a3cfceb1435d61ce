"""CDS Hooks: the protocol, prefetch, reading a FHIR server, feedback."""
