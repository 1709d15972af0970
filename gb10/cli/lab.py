"""./course lab: lay the lessons out in work/ and open JupyterLab on the syllabus."""

from __future__ import annotations

import os
import sys

from gb10.cli import PROG
from gb10.errors import UserError

HELP = "Lay the lessons out in work/ (your own copies) and open JupyterLab on the syllabus."
EXAMPLES = """\
  ./course lab                  port 8888, or the next free one; Ctrl-C stops it
  ./course lab --no-browser     only print the address
  ./course lab --port 9000      this port and no other
"""


def port_number(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= 65535:
        import argparse

        raise argparse.ArgumentTypeError(f"'{text}' is no port (1 to 65535)")
    return value


def add_arguments(parser):
    parser.add_argument("--port", type=port_number, metavar="N", help="this port (default: 8888 or the next free one)")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="address to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument("--no-browser", action="store_true", help="don't open a browser, only print the address")
    parser.add_argument("options", nargs="*", metavar="-- OPTION",
                        help="after a bare --: further options of `jupyter lab`, such as -- --LabApp.custom_css=True")


def has_display(env) -> bool:
    """Can a browser be opened where the user sits? Not over ssh, and on Linux only with a display."""
    if env.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def tunnel_line(env, port: int, user: str) -> str | None:
    """The ssh command to type on the user's own machine; None when this is no ssh session.

    SSH_CONNECTION is "client-address client-port server-address server-port": the server's address is the one that
    the user's machine has just reached.
    """
    fields = env.get("SSH_CONNECTION", "").split()
    if len(fields) != 4:
        return None
    _, _, host, ssh_port = fields
    option = "" if ssh_port == "22" else f"-p {ssh_port} "
    return f"ssh -N -L {port}:127.0.0.1:{port} {option}{user}@{host}"


def user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):     # a container's user without a name
        return "USER"


def report_lines(report) -> list[str]:
    """What the layout did, in a few lines; nothing to say gives none."""
    lines = []
    if report.added:
        folders = sorted({n.split("/")[0] for n in report.added if "/" in n})
        lines.append(f"laid out in work/: {len(report.added)} files ({', '.join(folders) or 'the syllabus'})")
    lines += [f"updated: work/{n}" for n in report.updated]
    lines += [f"the copy before it is kept: work/{n}" for n in report.backups]
    lines += [f"no longer part of the course, removed untouched: work/{n}" for n in report.removed]
    for n in report.newer:
        how = f"./course reset {n.split('/')[0]} brings it and keeps yours" if "/" in n else "delete yours to get it"
        lines.append(f"newer upstream: {n} (yours is untouched; {how})")
    if report.deleted:
        lessons = sorted({n.split("/")[0] for n in report.deleted})
        lines.append(f"deleted by you, not put back: {', '.join(report.deleted[:3])}"
                     + (f" and {len(report.deleted) - 3} more" if len(report.deleted) > 3 else "")
                     + f" (./course reset {lessons[0]} does)")
    return lines + report.notes


def run(args) -> int:
    from gb10 import lab, paths, workspace
    from gb10.syllabus import SYLLABUS

    if loose := [o for o in args.options if not o.startswith("-")]:
        raise UserError(f"lab takes no argument '{loose[0]}' (it always opens your work folder): {PROG} lab --help.")
    lab.check_address(args.host, args.port)
    config = lab.more_settings(args.options) if args.options else None
    for line in report_lines(workspace.lay_out()):
        print(line)
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        print(f"listening on {args.host}: others on the network can reach it, unencrypted, with the token.")
    print("starting JupyterLab ...", flush=True)

    def ready(url: str, port: int) -> None:
        if tunnel := tunnel_line(os.environ, port, user_name()):
            print(f"you are here over ssh: on your own machine type\n    {tunnel}\nand open there")
        print(f"ready: {url}\n(Ctrl-C stops it)", flush=True)

    code = lab.serve(paths.WORK, page=SYLLABUS, host=args.host, port=args.port, on_ready=ready, config=config,
                     browser=not args.no_browser and has_display(os.environ))
    print("JupyterLab has stopped. Your work is in work/.", flush=True)
    return code
