"""lactation-cds: a CDS Hooks service for postpartum lactation support."""
