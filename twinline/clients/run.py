"""The one way in which every command of ours runs: streams, telemetry off, no proxy before loopback, modules, exit codes.

    code  means                                                                              a scheduler
    0     done                                                                               goes on
    1     failed; another try may help: a dependency is away, or another side is to be made right first
          (TransientError, MismatchError); or a command that judges found a fault (VerdictError)  tries again
    2     used wrongly: a parameter, a setting, a package that is not installed (SettingsError)   stops
    3     refused, or wrong for good: a gate, a document, an artefact (RefusedError, ContractError)  stops
    70    a bug: an error of neither kind; its traceback is in the log, or printed with TWINLINE_DEBUG=1  tries again
    130   interrupted: the work was left off in order, and goes on when the command is repeated   tries again

docs/exit-codes.md says the same for people.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NoReturn

import typer

from twinline.clients import logs, loopback, streams, telemetry
from twinline.clients.hidden import OURS, check_modules, own_modules_first
from twinline.contract.canonical import is_text
from twinline.contract.errors import ContractError, MismatchError, SettingsError, TwinlineError
from twinline.contract.release.checks import RefusedError, refusal_line

DONE: Final = 0
FAILED: Final = 1
USED_WRONGLY: Final = 2
REFUSED: Final = 3
BUG: Final = 70
INTERRUPTED: Final = 130

DEBUG_VARIABLE: Final = "TWINLINE_DEBUG"
# Names a file for how a command failed. A program between it and its caller, such as DVC, passes no exit code on.
FAILURE_VARIABLE: Final = "TWINLINE_FAILURE_FILE"
_DOCUMENT: Final = "docs/decisions/dependencies-by-role.md"
_log = logging.getLogger(__name__)


class VerdictError(ContractError):
    """A judging command did its work and found a fault, which the message names."""


def run(
    name: str,
    app: Callable[[], object],
    *,
    check: Literal["nothing", "rules", "all"] = "nothing",
    logged: bool = False,
    role: str = "",
) -> NoReturn:
    """Run a command and end the process with its exit code; every error is one line.

    Args:
        name: begins the line of an error.
        app: does the work; nothing that may report home was imported before.
        check: the golden cases to hold before it begins: of the rules in code, or of the splitter too.
        logged: whether it writes logs, which then have the traceback of a bug.
        role: the extra that its packages belong to.
    """
    sys.exit(ended(name, app, check=check, logged=logged, role=role))


def ended(
    name: str,
    app: Callable[[], object],
    *,
    check: Literal["nothing", "rules", "all"] = "nothing",
    logged: bool = False,
    role: str = "",
) -> int:
    """Run a command and return its exit code; as `run`, for a process that ends in its own way."""
    streams.apply()
    telemetry.apply()
    loopback.apply()
    if logged:
        logs.configure()
    left_out = own_modules_first()
    try:
        check_modules()
        for line in left_out:
            typer.echo(f"{name}: {line}", err=True)
        _check_contract(check)
        result = app()
    except TwinlineError as error:
        _say(name, error)
        return _noted(name, exit_code(error), error)
    except ModuleNotFoundError as error:
        if _is_ours(error.name):
            return _bug(name, error, logged)
        missing = _not_installed(error, role)
        _say(name, missing)
        return _noted(name, USED_WRONGLY, missing)
    except UnicodeEncodeError as error:
        wrong = next((argument for argument in sys.argv[1:] if not is_text(argument)), None)
        if wrong is None:
            return _bug(name, error, logged)
        _say(name, SettingsError(f"argument {wrong!a} is not text in this locale's encoding: write it in UTF-8"))
        return USED_WRONGLY
    except Exception as error:  # noqa: BLE001  (the last place: what was not expected gets a code and a line)
        return _bug(name, error, logged)
    return result if isinstance(result, int) else DONE


def exit_code(error: TwinlineError) -> int:
    """Return the exit code of an error of ours."""
    if isinstance(error, SettingsError):
        return USED_WRONGLY
    # A mismatch ends once the other side is fixed; this command cannot tell when.
    if isinstance(error, ContractError) and not isinstance(error, VerdictError | MismatchError):
        return REFUSED
    return FAILED


def _noted(name: str, code: int, error: Exception) -> int:
    """Note how a command failed in the file of FAILURE_VARIABLE, for the end of the command that started it; return the code."""
    if place := os.environ.get(FAILURE_VARIABLE):
        failure = {"command": name, "error": type(error).__name__, "code": code, "message": str(error)}
        Path(place).write_text(json.dumps(failure), "utf-8")
    return code


def _check_contract(check: Literal["nothing", "rules", "all"]) -> None:
    if check == "nothing":
        return
    # Imported here: the splitter takes a second that a command without it need not wait for.
    from twinline.contract.encoder.selfcheck import check_process, check_rules_in_code

    if check == "rules":
        check_rules_in_code()
    else:
        check_process()


def _say(name: str, error: TwinlineError) -> None:
    typer.secho(f"{name}: {error}", err=True, fg=typer.colors.RED)
    if isinstance(error, RefusedError):
        # For the calling program: the reason and the evidence.
        typer.echo(refusal_line(error))


def _bug(name: str, error: Exception, logged: bool) -> int:
    if logged:
        _log.error("command_broke", extra={"command": name}, exc_info=error)
    elif os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    where = "the log shows where" if logged else f"{DEBUG_VARIABLE}=1 shows where"
    typer.secho(f"{name}: {said} (a bug, here or in a library: {where})", err=True, fg=typer.colors.RED)
    return _noted(name, BUG, error)


def _is_ours(module: str | None) -> bool:
    return module is None or module.partition(".")[0] in OURS


def _not_installed(error: ModuleNotFoundError, role: str) -> SettingsError:
    extra = role or _extra_with(error.name or "")
    remedy = f"pip install 'twinline[{extra}]'" if extra else f"install twinline with the extra of its role ({_DOCUMENT})"
    return SettingsError(f"package {error.name} is not installed here, and this command needs it: {remedy}")


def _extra_with(module: str) -> str:
    """Return the first extra that declares a package of a module's name; empty where none does."""
    wanted = module.partition(".")[0].replace("_", "-").lower()
    for line in metadata.requires("twinline") or ():
        declared = re.match(r"([\w.-]+).*extra == [\"'](\w+)", line)
        if declared and declared[1].lower().replace("_", "-") == wanted:
            return declared[2]
    return ""
