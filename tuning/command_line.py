"""What the command-line programs share: common arguments, shell completion, and errors in one line."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from cpsc.errors import CpscError
from tuning.interruption import InterruptedSweepError
from tuning.process_settings import variables, yielding_threads
from tuning.redaction import redact


def _study_file(study: Path | None) -> Path | None:
    """The file that the argument means. Its folder becomes importable: the teacher's network or a method may be defined there."""
    from tuning.launch.reference import study_file
    from tuning.study.user_code import look_in

    if study is None:
        return None
    file = study_file(study)
    look_in([file.parent])
    return file


def complete_launch(incomplete: str) -> list[str]:
    """Names of launches that start with `incomplete`, for shell completion."""
    from tuning.launch.folder import launches_in

    return [folder.name for folder in launches_in(Path("runs")) if folder.name.startswith(incomplete)]


def complete_study(incomplete: str) -> list[str]:
    """Names of packaged studies and launches that start with `incomplete`; without a match, the shell completes file names."""
    from tuning.study.packaged_studies import packaged_files

    return [*(name for name in packaged_files() if name.startswith(incomplete)), *complete_launch(incomplete)]


STUDY_HELP = "The study: a YAML file, a name listed by `studies`, or the name or folder of a launch."
LAUNCH_HELP = "The launch: a name shown by `list`, its folder, or its study, which means the study's latest launch."
StudyPath = Annotated[Path, typer.Argument(help=STUDY_HELP, callback=_study_file, autocompletion=complete_study)]
LaunchName = Annotated[str, typer.Argument(help=LAUNCH_HELP, autocompletion=complete_launch)]
StorageOption = Annotated[str, typer.Option("--storage", help="The folder with the launches, or the URI of a study's storage.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: path=value, e.g. epochs=3; repeatable.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")]
USAGE_ERROR = 2
INTERRUPTED = 130
MAX_LINE = 1000

# Typer raises click's errors or, in later versions, those of its own copy of click.
ArgumentError = cast(type[Exception], next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"))


def run(app: typer.Typer) -> NoReturn:
    """Run a verb of `app`. A user's mistake ends in one line on stderr and exit status 2; CPSC_DEBUG=1 shows the traceback."""
    try:
        with variables(yielding_threads()):  # must be set before PyTorch is imported
            _look_here()
            # Completion needs the program's own name, however it was started.
            sys.exit(app(standalone_mode=False, prog_name=app.info.name))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)  # a sweep that has begun a launch prints how to resume it instead
        sys.exit(INTERRUPTED)
    except ArgumentError as error:
        _refuse(argument_message(error, app))
    except InterruptedSweepError as error:
        _refuse(str(error), status=INTERRUPTED if error.by_signal else USAGE_ERROR)
    except CpscError as error:
        if os.environ.get("CPSC_DEBUG") or "--debug" in sys.argv:
            raise
        _refuse(str(error))


def _look_here() -> None:
    """Make users' own classes importable from the current folder, as ``python -m`` does."""
    from tuning.study.user_code import look_in

    look_in([Path.cwd()])


def _refuse(message: str, *, status: int = USAGE_ERROR) -> NoReturn:
    """Exit with `message` as one line, with secrets and terminal control characters removed."""
    line = " ".join(part.strip() for part in redact(message).splitlines() if part.strip())
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE // 2]} ... {line[-MAX_LINE // 2 :]}"
    print(line if status == INTERRUPTED else f"error: {line}", file=sys.stderr)
    sys.exit(status)


def argument_message(error: Any, app: typer.Typer) -> str:
    """Typer's message about an argument in one line, with a pointer to ``--help``."""
    context = getattr(error, "ctx", None)
    words = str(error.format_message()).rstrip(".")
    return f"{words[:1].lower()}{words[1:]}; see: {context.command_path if context else app.info.name} --help"
