"""papermill's engine for notebooks of this project, used wherever ``kb`` is installed.

Plain ``papermill`` stores secret parameters in its output, marks cells that never ran as completed,
and ends with a traceback. This engine takes the notebooks that carry ``kb`` metadata, and leaves
all others to papermill's own.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import nbformat
import yaml
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbformat.reader import NotJSONError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger
from papermill.translators import PythonTranslator, papermill_translators

from kb.runtime import border, facts, parameters, record, redact
from kb.runtime.engine import Outcome, run
from kb.runtime.record import write_atomically


class Translator(PythonTranslator):  # type: ignore[misc]
    """papermill's way from parameters to Python, for names that are names and plain values.

    It is the first to see them, of whatever notebook: what is refused is written nowhere.
    """

    @classmethod
    def codify(cls, values: Any, comment: str = "Parameters") -> str:
        """The text of the cell that papermill injects."""
        try:
            parameters.check_passed(values)
        except parameters.ParameterError as error:
            raise _refused(error) from None
        return str(super().codify(values, comment))


class _Manager(AsyncKernelManager):
    """What a kernel itself says goes nowhere: at its end it may complain about its sockets."""

    def start_kernel(self, **options: Any) -> Any:
        return super().start_kernel(**{"stderr": subprocess.DEVNULL, **options})


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine for notebooks that carry ``kb`` metadata; others run as ever."""

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> Any:
        """Ours are Python, whatever ``--language`` says: what is injected was checked as that."""
        return "python" if "kb" in nb.metadata else super().nb_language(nb, language)

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **options: Any,
    ) -> Any:
        """Execute ``nb`` on this machine. A failure is a one-sentence error of the command line."""
        if "kb" not in nb.metadata:
            return super().execute_notebook(
                nb,
                kernel_name,
                output_path,
                progress_bar,
                log_output,
                autosave_cell_every,
                **options,
            )
        try:
            KernelSpecManager().get_kernel_spec(kernel_name)
            environment = redact.hide_parameters(nb)
            border.check_injected(nb)
        except border.BorderError as error:
            raise click.ClickException(str(error)) from None
        except NoSuchKernel:
            raise click.ClickException(
                f"there is no kernel `{kernel_name}` here: leave out --kernel"
            ) from None
        except parameters.ParameterError as error:
            raise _refused(error) from None
        private = bool(environment)  # a secret was passed, and masks can have holes
        source = Path(options.get("input_path") or nb.metadata.papermill.get("input_path") or "")
        source = source.resolve()
        identity = record.identity(nb.metadata["kb"], source)
        environment |= {
            "KB_HERE": str(source.parent),
            "KB_NOTEBOOK": "/".join(identity.parts[-2:]),
        }
        passed = dict(nb.metadata.papermill.get("parameters", {}))
        mode = passed.get("mode", "plan") if identity.parts[0] == "runbooks" else None
        about = {"name": "local", "kind": "local", "label": "machine itself"}
        about |= {"machine": record.machine(), **facts.gather()}
        inputs = record.inputs_of(nb, source)

        def save(outcome: Outcome) -> None:
            nb.metadata[record.RUN] = record.new(
                notebook=f"{identity}.ipynb",
                stage=mode or "run",
                mode=mode,
                parameters=passed,
                host=about,
                inputs=inputs,
                root=source.parent,
                outcome=outcome,
            )
            if output_path and "://" not in output_path and output_path != "-":
                try:
                    write_atomically(Path(output_path), nbformat.writes(nb), private=private)
                except OSError as error:
                    raise click.ClickException(
                        f"{output_path} could not be written: {error.strerror}"
                    ) from None

        def progress(what: str, elapsed: float) -> None:
            if progress_bar:
                print(f"[{elapsed:7.1f} s] {what}", file=sys.stderr, flush=True)

        report = _reporter(nb) if log_output else lambda: None

        def after_cell(outcome: Outcome) -> None:
            save(outcome)
            report()

        with tempfile.TemporaryDirectory(prefix="kb-", dir=_runtime_directory()) as sockets:
            outcome = run(
                nb,
                manager=_Manager(
                    kernel_name=kernel_name,
                    transport="ipc",
                    ip=f"{sockets}/s",
                    connection_file=f"{sockets}/connection.json",
                ),
                env={**os.environ, **environment},
                progress=progress,
                save=after_cell,
                hidden=redact.secrets(environment),
            )
        save(outcome)
        if outcome.error:
            where = f" (cell `{outcome.error['cell']}`)" if outcome.error["cell"] else ""
            written = f"; what ran is in {output_path}" if output_path else ""
            raise click.ClickException(f"{outcome.error['message']}{where}{written}")
        return nb


def _refused(error: parameters.ParameterError) -> click.ClickException:
    return click.ClickException(f"{error} (nothing has been changed)")


def _one_sentence(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """What the command ends with where papermill reads what it was given, before any engine."""
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    elif isinstance(error, NotJSONError):
        said = "the notebook cannot be read: it is not JSON"
    elif isinstance(error, yaml.YAMLError):
        said = f"the parameters cannot be read: {getattr(error, 'problem', None) or 'no YAML'}"
    elif isinstance(error, ValueError | TypeError) and Path(_last_file(trace)).parts[-2:] == (
        "papermill",
        "cli.py",
    ):
        said = "parameters must be names with values, such as `mode: plan`"
    else:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"Error: {said} (nothing has been changed)", file=sys.stderr)


def _last_file(trace: TracebackType | None) -> str:
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace else ""


def _is_name(line: logging.LogRecord) -> bool:
    """Whether papermill may print its warning: no name may be ``api_token=`` and the token."""
    _, _, name = str(line.msg).partition("unknown parameter: ")
    return not name or bool(parameters.NAME.fullmatch(name))


def _runtime_directory() -> str | None:
    """Where sockets belong, and where a kill leaves nothing that outlives a boot; None: /tmp."""
    for place in (os.environ.get("XDG_RUNTIME_DIR"), "/run"):
        if place and os.access(place, os.W_OK):
            return place
    return None


def _reporter(nb: Any) -> Callable[[], None]:
    """For papermill's --log-output: passes on what each finished cell printed."""
    shown: set[str] = set()

    def report() -> None:
        for cell in nb.cells:
            if cell.cell_type == "code" and cell.id not in shown and cell.outputs:
                shown.add(cell.id)
                for output in cell.outputs:
                    logger.info(str(output.get("text", "")).rstrip())

    return report


# Plain `papermill NOTEBOOK` names no engine: ours takes the notebooks that are ours.
papermill_engines.register(None, Engine)
papermill_translators.register("python", Translator)
logger.addFilter(_is_name)
if Path(sys.argv[0]).name == "papermill":  # the command, not a program that uses the library
    sys.excepthook = _one_sentence
