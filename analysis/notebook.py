# PYTHON_ARGCOMPLETE_OK
"""Write a study's notebook, execute it, and export it as one HTML file that needs no network.

    python -m analysis.notebook runs/emoji-clip
    python -m analysis.notebook runs/emoji-clip --no-execute     the notebook alone, to be run by hand

The notebook, report/study.ipynb, reads the study folder that it lies in: it runs wherever that folder and polydistill
are. One that was edited is not overwritten.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.commands import CommandError, CommandParser, add_run, command_parser, open_study, run_command
from analysis.sections import SECTIONS, Section

if TYPE_CHECKING:
    from nbformat import NotebookNode

_MARK = "polydistill"  # in the metadata: what the notebook was as written
_INTRODUCTION = """\
# A study of distillation recipes

All of it is computed from the folder around this notebook, by functions of the package `analysis`, which polydistill brings: change
a cell, run it, and go on from there.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 done, 1 a section failed, 2 a mistake in the input, 130 interrupted."""
    return run_command(_parser(), _run, arguments)


def _parser() -> CommandParser:
    parser = command_parser("analysis.notebook", __doc__, "a section failed")
    add_run(parser)
    parser.add_argument("--no-execute", action="store_true", help="write the notebook, and neither run nor export it")
    parser.add_argument("--overwrite", action="store_true", help="also a notebook that was edited")
    return parser


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    data = open_study(options.run)
    from analysis.overview import state, troubles

    path = data.path / "report" / "study.ipynb"
    path.parent.mkdir(exist_ok=True)
    if not options.overwrite:
        _refuse_edited(path)
    notebook = build(SECTIONS)
    if options.no_execute:
        _write(notebook, path)
        print(f"Notebook: {path}")
        return 0
    for line in [*state(data), *troubles(data)]:
        print(line)
    try:
        failure = execute(notebook, path.parent)
    except KeyboardInterrupt:
        print("Interrupted: nothing was written.", file=sys.stderr)
        return 130
    _write(notebook, path)
    print(f"Notebook: {path}")
    if failure:
        print(
            f"analysis.notebook: {failure}; the notebook has the whole of it, study.html was not written",
            file=sys.stderr,
        )
        return 1
    page = path.with_suffix(".html")
    from analysis.files import write_atomically

    write_atomically(page, export(notebook, data.name).encode())
    print(f"HTML: {page} ({page.stat().st_size / 1e6:.1f} MB, {time.monotonic() - began:.0f} s)")
    return 0


def build(sections: Sequence[Section]) -> NotebookNode:
    """A notebook of these sections that was not run yet; the same sections give the same notebook."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    cells = [new_markdown_cell(_INTRODUCTION.strip(), id="introduction")]
    for place, section in enumerate(sections, start=1):
        cells.append(new_markdown_cell(f"## {section.title}\n\n{section.text}", id=f"text-{place}"))
        cells.append(new_code_cell(section.code.strip(), id=f"code-{place}", metadata={"section": section.title}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.metadata[_MARK] = {"sources": _digest(notebook)}
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> str | None:
    """Run the notebook in ``folder``, in a kernel of this Python; its outputs are then in it.

    Returns None, or which section failed and why; the sections behind it were then not run.
    """
    from ipykernel.kernelspec import make_ipkernel_cmd
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    class ThisPython(KernelSpecManager):
        """The Python that runs this command, whichever kernels are installed."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=make_ipkernel_cmd(), display_name=kernel_name, language="python")

    package = str(Path(__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory() as own:  # of the kernel: neither its files nor its settings are the user's
        manager = AsyncKernelManager(
            kernel_spec_manager=ThisPython(), connection_file=f"{own}/kernel.json", transport="ipc"
        )
        client = NotebookClient(notebook, km=manager, timeout=None, resources={"metadata": {"path": str(folder)}})
        client.record_timing = False
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONSAFEPATH": "1",  # a study's folder is data: no module is imported from it
            "IPYTHONDIR": own,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONWARNINGS": "ignore:IProgress not found",  # of tqdm, which has nothing to show here
        }
        try:
            client.execute(env=os.environ | environment, cleanup_kc=True)
        except CellExecutionError as error:
            title = notebook.cells[_failed(notebook)].metadata["section"]
            return f"the section '{title}' failed: {error.ename}: {' '.join(str(error.evalue).split())[:300]}"
        except DeadKernelError:
            return "the kernel died: it was interrupted, or out of memory"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata.setdefault("image/png", {})["alt"] = f"Figure: {cell.metadata['section']}"
    return None


def export(notebook: NotebookNode, name: str) -> str:
    """An executed notebook as one page."""
    from jinja2 import PackageLoader
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    from analysis.page import asset, render

    loader = PackageLoader("analysis", "web")
    exporter = HTMLExporter(
        template_name="basic", template_file="cells.html.j2", extra_loaders=[loader], exclude_anchor_links=True
    )
    body, _ = exporter.from_notebook_node(notebook)
    colours = HtmlFormatter().get_style_defs(".highlight")
    return render("study.html.j2", {"title": name, "body": body, "colours": colours}, asset("explorer.js"))


def _refuse_edited(path: Path) -> None:
    """Raises CommandError if the notebook at ``path`` is no longer what this command wrote."""
    import nbformat

    if not path.exists():
        return
    try:
        notebook = nbformat.read(path, as_version=4)
        is_ours = notebook.metadata.get(_MARK, {}).get("sources") == _digest(notebook)
    except (ValueError, AttributeError, nbformat.ValidationError):
        is_ours = False
    if not is_ours:
        raise CommandError(f"{path} was edited since it was written: rename it, or give --overwrite")


def _digest(notebook: NotebookNode) -> str:
    sources: list[Any] = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(repr(sources).encode()).hexdigest()


def _failed(notebook: NotebookNode) -> int:
    """The cell that raised."""
    return next(
        place
        for place, cell in enumerate(notebook.cells)
        if any(output.output_type == "error" for output in cell.get("outputs", []))
    )


def _write(notebook: NotebookNode, path: Path) -> None:
    import nbformat

    from analysis.files import write_atomically

    write_atomically(path, f"{nbformat.writes(notebook)}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
