"""The notebooks in `examples` run from top to bottom, with small budgets, and without a warning or an error."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.test_readme import made_small_in_python

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda file: file.stem)
def test_notebook_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(file, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.source = made_small_in_python(cell.source)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type in ("execute_result", "display_data")]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
