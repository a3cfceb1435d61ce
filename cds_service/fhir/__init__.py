"""FHIR: a chart as it was sent, its times and its references."""
