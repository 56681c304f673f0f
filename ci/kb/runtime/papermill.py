"""papermill's engine for notebooks of this project, used wherever ``kb`` is installed.

Plain ``papermill`` stores secret parameters in its output, marks cells that never ran as completed,
and ends with a traceback. This engine takes the notebooks that carry ``kb`` metadata, and leaves
all others to papermill's own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import click
import nbformat
import yaml
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_path
from nbformat.reader import NotJSONError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException
from papermill.log import logger
from papermill.translators import PythonTranslator, papermill_translators

from kb.runtime import border, facts, parameters, reading, record, redact, shell, undo
from kb.runtime.destination import Destination, UnwritableError
from kb.runtime.engine import KERNEL_START, Heard, Outcome, run

UNENDED = {"cell": "", "message": "the run has not come to its end"}
OVERWRITE = "NOBLE_RUNBOOKS_OVERWRITE"  # lets a run overwrite the record of an apply
LEVELS = {"stdout": logging.INFO, "stderr": logging.WARNING}  # as papermill's own
BESIDE = re.compile(r"\$\{?KB_HERE\}?/([\w.@-][\w./@-]*)")  # what bash cells use


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
    """A kernel that says nothing of its own, and leaves nothing in anybody's home."""

    def __init__(self, directory: str, **traits: Any) -> None:
        super().__init__(
            kernel_spec_manager=_kernels(),
            transport="ipc",
            ip=f"{directory}/s",
            connection_file=f"{directory}/connection.json",
            **traits,
        )
        self.directory = directory

    def start_kernel(self, **options: Any) -> Any:
        options["env"] = {**options["env"], "IPYTHONDIR": self.directory}
        # At its end it may complain about its sockets.
        return super().start_kernel(**{"stderr": subprocess.DEVNULL, **options})


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine for notebooks that carry ``kb`` metadata; others run as ever."""

    started_in = Path()  # papermill goes to --cwd before it calls an engine

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> Any:
        """papermill asks for it before it goes anywhere."""
        cls.started_in = Path.cwd()
        return super().nb_kernel_name(nb, name)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> Any:
        """Ours are Python; papermill asks before it writes parameters."""
        if "kb" not in nb.metadata:
            return super().nb_language(nb, language)
        if language not in (None, "python"):
            raise _unchanged(f"this notebook is Python, not {language}: leave out --language")
        if _command_line().get("prepare_only"):
            raise _unchanged(
                "--prepare-only writes parameters that nobody has checked, and secrets as they"
                " are: leave it out; mode plan, which is the default, changes nothing either"
            )
        return "python"

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
        environment = _checked(nb, kernel_name)
        running = _Run(nb, cls.started_in, environment, after_each_cell=bool(output_path))
        running.begin()

        def say(line: str) -> None:
            if log_output:
                logger.info(line)
            elif progress_bar:
                print(line, file=sys.stderr, flush=True)

        with tempfile.TemporaryDirectory(prefix="kb-", dir=_runtime_directory()) as directory:
            try:
                run(
                    nb,
                    manager=_Manager(directory, kernel_name=kernel_name),
                    env={**os.environ, **running.environment},
                    progress=lambda what, elapsed: say(f"[{elapsed:7.1f} s] {what}"),
                    save=running.save,
                    hidden=redact.secrets(environment),
                    outcome=running.outcome,
                    mode=running.mode,
                    heard=_listener(log_output, options),
                    cell_timeout=options.get("execution_timeout"),
                    start_timeout=options.get("start_timeout") or KERNEL_START,
                    save_every=autosave_cell_every,
                )
            except KeyboardInterrupt:
                running.interrupted = True
        running.end(lambda line: say(redact.clean(line, redact.secrets(environment))))
        return nb


class _Run:
    """One run of a notebook of ours: what it is told, and its record."""

    def __init__(
        self, nb: Any, started_in: Path, secret: dict[str, str], *, after_each_cell: bool
    ) -> None:
        about = nb.metadata.papermill
        self.nb = nb
        self.source = (started_in / str(about.get("input_path") or "")).resolve()
        self.identity = record.identity(nb.metadata["kb"], self.source)
        self.passed = dict(about.get("parameters", {}))
        is_runbook = self.identity.parts[0] == "runbooks"
        self.mode = self.passed.get("mode", "plan") if is_runbook else None
        self.environment = {
            **secret,
            "KB_HERE": str(self.source.parent),
            "KB_NOTEBOOK": "/".join(self.identity.parts[-2:]),
            **shell.SAME_EVERYWHERE,
        }
        self.host = {"name": "local", "kind": "local", "label": "machine itself"}
        self.host |= {"machine": record.machine(), **facts.gather()}
        self.inputs = record.inputs_of(nb, self.source)
        self.outcome = Outcome()
        self.interrupted = False
        self.after_each_cell = after_each_cell
        # A secret was passed, and masks can have holes.
        self.destination = Destination(about.get("output_path"), started_in, private=bool(secret))

    def begin(self) -> None:
        """Refuse what would only come to light later, when something has been changed."""
        _refuse_without_files(self.nb, self.source.parent)
        self._refuse_to_overwrite()
        try:
            self.destination.try_out(self._text(UNENDED), remote=self.mode in ("apply", "rollback"))
        except UnwritableError as error:
            raise _unchanged(str(error)) from None

    def _refuse_to_overwrite(self) -> None:
        """The record of an apply says what is to be rolled back: that it is, comes first.

        An apply that failed is run again by the same command.
        """
        path = self.destination.path
        if path is None or os.environ.get(OVERWRITE) or not path.is_file():
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["metadata"][record.RUN]
            mode, passed = there["mode"], there["result"] == "passed"
            runbook = "/".join(Path(there["notebook"]).with_suffix("").parts[-2:])
        except (OSError, ValueError, KeyError, TypeError):
            return  # not a record
        if mode == "apply" and (passed or self.mode != "apply") and undo.is_applied(runbook):
            raise _unchanged(
                f"{self.destination.name} is the record of an apply of {runbook} that has not been"
                f" rolled back: give this run another name, or set {OVERWRITE}=1 to overwrite it"
            )

    def save(self, _: Outcome) -> None:
        """Save what has run until now, where that can be done more than once."""
        if self.after_each_cell and self.destination.is_file:
            # It could be written before; the end tells if it cannot be any more.
            with contextlib.suppress(UnwritableError):
                self.destination.write(self._text(self.outcome.error or UNENDED))

    def end(self, say: Callable[[str], object]) -> None:
        """Leave the record, sum up, and end papermill's command; return only to a program."""
        outcome, alone = self.outcome, bool(_command_line())
        if self.interrupted and not outcome.error:
            outcome.error = {"cell": "", "message": "the run was interrupted"}
        where = ""
        # What a program has passed is written by papermill as well.
        if outcome.error or alone or self.destination.is_file:
            try:
                where = self.destination.finish(self._text(outcome.error))
            except UnwritableError as error:
                if not outcome.error:
                    raise click.ClickException(f"the run has passed, but {error}") from None
                where = str(error)
        for line in reading.closing(
            self.nb, self.mode, "" if outcome.error else self.destination.place
        ):
            say(line)
        if self.interrupted and not alone:
            raise KeyboardInterrupt
        if outcome.error:
            cell = f" (cell `{outcome.error['cell']}`)" if outcome.error["cell"] else ""
            said = f"{outcome.error['message']}{cell}"
            raise click.ClickException(f"{said}; {where}" if where else said)
        if alone:
            raise click.exceptions.Exit(0)  # papermill's own writing could be cut off half-way

    def _text(self, error: dict[str, str] | None) -> str:
        self.nb.metadata[record.RUN] = record.new(
            notebook=f"{self.identity}.ipynb",
            stage=self.mode or "run",
            mode=self.mode,
            parameters=self.passed,
            host=self.host,
            inputs=self.inputs,
            root=self.source.parent,
            outcome=replace(self.outcome, error=error),
        )
        return str(nbformat.writes(self.nb))


class Others(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, which must not have our notebooks."""

    @classmethod
    def execute_notebook(cls, nb: Any, *arguments: Any, **options: Any) -> Any:
        """Execute ``nb`` as ever, if it is not ours."""
        if "kb" in nb.metadata:
            raise _unchanged("this notebook has an engine of its own: leave out --engine")
        return super().execute_notebook(nb, *arguments, **options)


def _checked(nb: Any, kernel_name: str) -> dict[str, str]:
    """See that it can run; returns its secrets, which are in the environment alone."""
    try:
        _kernels().get_kernel_spec(kernel_name)
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
    for cell in nb.cells:  # papermill draws its id by chance, and an error names it
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return environment


def _kernels() -> KernelSpecManager:
    """The kernels of this machine. Left to itself it makes ~/.ipython, to look there, too."""
    return KernelSpecManager(kernel_dirs=jupyter_path("kernels"))


def _command_line() -> dict[str, Any]:
    """The options of papermill's command line; {} where a program calls papermill."""
    context = click.get_current_context(silent=True)
    if context is None or getattr(context.command.callback, "__module__", "") != "papermill.cli":
        return {}
    return context.params


def _refuse_without_files(nb: Any, here: Path) -> None:
    """A notebook that was taken elsewhere without the files that its cells use."""
    cells = [record.source(cell) for cell in nb.cells if cell.cell_type == "code"]
    for name in sorted({name for text in cells for name in BESIDE.findall(text)}):
        if not (here / name).exists():
            raise _unchanged(
                f"{name}, which this notebook needs beside it, is not in {here}: run it where it"
                " lies in its checkout, or copy that there"
            )


def _unchanged(said: str) -> click.ClickException:
    return click.ClickException(f"{said} (nothing has been changed)")


def _refused(error: parameters.ParameterError) -> click.ClickException:
    return _unchanged(str(error))


def _one_sentence(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """What the command ends with where papermill reads what it was given, before any engine."""
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    elif type(error) is PapermillException:  # those of a cell that failed are its children
        said = str(error)
    elif isinstance(error, NotJSONError):
        said = "the notebook cannot be read: it is not JSON"
    elif isinstance(error, yaml.YAMLError):
        why = getattr(error, "problem", None) or "they are not YAML"
        said = f"the parameters cannot be read: {why}"
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


def _listener(log_output: bool, options: Mapping[str, Any]) -> Heard:
    """Where what cells print goes while they run: --log-output, --stdout-file, --stderr-file."""

    def heard(stream: str, lines: str) -> None:
        lines = reading.NOT_RUN.sub("", lines)
        if log_output and lines:
            logger.log(LEVELS[stream], lines.rstrip("\n"))
        if file := options.get(f"{stream}_file"):
            file.write(lines)
            file.flush()

    return heard


# Plain `papermill NOTEBOOK` names no engine: ours takes the notebooks that are ours.
papermill_engines.register(None, Engine)
papermill_engines.register("nbclient", Others)
papermill_translators.register("python", Translator)
logger.addFilter(_is_name)
# The command, not a program that uses the library.
if "papermill" in (Path(sys.argv[0]).name, Path(sys.argv[0]).parent.name):
    sys.excepthook = _one_sentence
