"""Names of tags and metrics of a launch and its trials in MLflow."""

LAUNCH_TAG, LAUNCH_ID_TAG, NUMBER_TAG, OUTCOME_TAG, KIND_TAG = "launch", "launch_id", "number", "outcome", "kind"
POINT_TAG, PARENT_TAG = "point", "mlflow.parentRunId"
FINALIST_TAG = "finalist_of"
"""The number of the trial whose values a finalist repeats."""
RETRIES_METRIC = "retries"
"""Number of restarts of a trial after a failure, each with its time. It concerns the cluster, not the trial's numbers."""
REASON_TAG = "reason"
"""Why a trial ended before its last epoch; empty if it was continued."""
MARKS_TAG, MAX_MARKS = "marks", 5000
"""Which images the student of a trial's best epoch gets right, and the longest text that MLflow accepts."""
MAX_TAG = 500
DOUBT_TAG, SOUND = "in_doubt", "no"
"""Tag of a registered version: the names of findings that put it in doubt, or `SOUND` if there are none."""
DIGEST_TAG = "student.digest"
"""Tag of a logged model and its versions: the student that they hold. Each student of a run is one model."""
