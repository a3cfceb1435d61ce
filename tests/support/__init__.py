"""What tests share: synthetic records, processes, databases and FHIR servers."""
