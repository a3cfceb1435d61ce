"""The demo: synthetic mothers behind a small FHIR endpoint, and a small EHR to open charts."""
