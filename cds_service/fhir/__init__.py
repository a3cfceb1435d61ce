"""FHIR: the chart of a patient as it was sent or read, with its times, references and doses."""
