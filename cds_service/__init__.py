"""lactation-cds: a CDS Hooks service for postpartum lactation support."""

__version__ = "0.1.0"
