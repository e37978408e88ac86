"""Executes notebooks in place, top to bottom, and fails at the first cell that fails."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path, target: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    for cell in notebook.cells:
        # When a cell ran says nothing about the data.
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, target / path.name)
    print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ok")


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    for path in sorted(source.glob("*.ipynb")):
        execute(path, target)


if __name__ == "__main__":
    main()
