"""The name that ``cds_service.cli.bulk`` had before; it goes with the next release."""

import warnings

from .cli.bulk import evaluate_on_dask

__all__ = ["evaluate_on_dask"]

warnings.warn(
    "cds_service.bulk is cds_service.cli.bulk now; the old name goes with the next release",
    DeprecationWarning,
    stacklevel=2,
)
