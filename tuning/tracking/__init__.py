"""MLflow: where the store is, the journal on its way there, runs and how they are found again, and what its UI shows first."""

from tuning.tracking.client import check_tracking, store_uri
from tuning.tracking.delivery import MlflowWriter, delivering

__all__ = ["MlflowWriter", "check_tracking", "delivering", "store_uri"]
