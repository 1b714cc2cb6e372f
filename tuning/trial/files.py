"""Names of the files in a trial's checkpoint."""

STATE_FILE = "state.pt"
BEST_STUDENT_FILE = "best_student.pt"
SAMPLES_FILE = "samples.png"
GALLERY_FILE = "samples_by_epoch.png"
CONFIG_FILE = "config.yaml"
ANSWERS_FILE = "answers.pt"
