"""The demo: a small FHIR endpoint with synthetic mothers, and a small EHR to open their charts."""
