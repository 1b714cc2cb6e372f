"""The names by which a launch, its trials and what they measured are known in MLflow."""

LAUNCH_TAG, LAUNCH_ID_TAG, NUMBER_TAG, OUTCOME_TAG, KIND_TAG = "launch", "launch_id", "number", "outcome", "kind"
POINT_TAG, PARENT_TAG = "point", "mlflow.parentRunId"
FINALIST_TAG = "finalist_of"
"""The number of the trial whose values a finalist repeats."""
RETRIES_METRIC = "retries"
"""How often a trial was begun again after a failure, each time with its moment. Of the cluster, not of the trial's numbers."""
"""Outcome tag of a trial that has none yet."""
REASON_TAG = "reason"
"""Why a trial has ended before its last epoch; empty where it went on."""
MARKS_TAG, MAX_MARKS = "marks", 5000
"""What the student of a trial's best epoch has right, and the longest text that MLflow takes."""
MAX_TAG = 500
DOUBT_TAG, SOUND = "in_doubt", "no"
"""Of a registered version: names of what puts it in doubt, or that nothing is known against it."""
DIGEST_TAG = "student.digest"
"""Of a logged model and its versions: which student they hold. One student of one run is one model."""
