"""The dispatcher: a verb's module is imported when the verb is typed, so `edgespec --help` is instant."""

from __future__ import annotations

import errno
import sys
from importlib import import_module

import click

from .errors import EdgespecError, Stopped

VERBS = {
    "demo": "The whole thing on the bundled pair: export, quantize, bench, verdict. Offline, in minutes.",
    "devices": "The OpenVINO devices of this machine, and which modes each can run.",
    "export": "A Hugging Face checkpoint, with or without a draft, to an OpenVINO pair directory.",
    "pair": "OpenVINO models that are there already, or a GGUF target, to a pair directory, as they are.",
    "quantize": "Compress a pair's weights, and say what it cost.",
    "bench": "Measure, paired and interleaved, how much faster a pair answers with speculation than without.",
    "compare": "Hold runs of edgespec bench against the first: what makes them incomparable, then what differs and how "
    "surely.",
    "verify": "Does speculation change what the model says? Exit code 1 when it does.",
    "prompts": "The prompts that bench can ask: what there is, what they say, and those of others to fetch.",
    "plan": "What would a draft gain on this machine, before anyone trains one?",
    "tune": "Find the fastest way to run a pair on a device of this machine, and write it into the pair as a profile.",
    "generate": "Continue a prompt with a pair, streaming.",
    "chat": "Talk with a pair in the terminal, streaming; /help lists what can be asked of it.",
    "serve": "An OpenAI-compatible server over a pair, and a page to try it with; Ctrl-C ends it.",
    "package": "A pair as a model repository that OpenVINO Model Server serves as it is, for Kubernetes too.",
    "loadtest": "Put load on an OpenAI-compatible server: tokens/s, waiting times, errors, at every level asked for.",
    "train": "Make a draft for a target: init, pretrain, generate, align, evaluate; or a whole recipe: run.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        import typer

        module = import_module(f"edgespec.commands.{cmd_name}")
        if hasattr(module, "app"):
            return typer.main.get_command(module.app)
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(name=cmd_name)(module.run)
        return typer.main.get_command(app)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgespec", message="edgespec %(version)s")
def edgespec() -> None:
    """Make a large language model answer faster on an AI PC without changing what it says.

    New here? Run: edgespec demo
    """


def main() -> None:
    """The console entry point: the one place that turns errors into a sentence and an exit code.

    0: done; 1: a check failed; 2: bad input or a limit of this machine; 130: interrupted.
    """
    from multiprocessing import freeze_support

    from .console import force_utf8

    freeze_support()  # of a frozen command line: see runtime/probe.py
    force_utf8()
    try:
        code = edgespec(standalone_mode=False)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except EdgespecError as error:
        _fail(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's and typer's usage errors
            _fail(error.format_message())
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _fail(f"the disk is full{_where(error)}; free some space and run the command again")
        if isinstance(error, PermissionError):
            _fail(f"permission was refused{_where(error)}; close what uses it, or choose a place you may write to")
        if isinstance(error, OSError):
            _fail(f"{error.strerror or error}{_where(error)}")
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _where(error: OSError) -> str:
    return f" at '{error.filename}'" if error.filename else ""


def _fail(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
