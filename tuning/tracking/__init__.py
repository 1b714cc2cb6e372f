"""MLflow: the store, delivery of the journal to it, lookup of runs, and the view that its UI opens with."""

from tuning.tracking.client import check_tracking, store_uri
from tuning.tracking.delivery import MlflowWriter, delivering

__all__ = ["MlflowWriter", "check_tracking", "delivering", "store_uri"]
