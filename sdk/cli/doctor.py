"""sdk doctor"""

from __future__ import annotations

import argparse

from sdk.cli.arguments import add_json
from sdk.cli.console import Console
from sdk.errors import ToolError

SUMMARY = "check what this computer has: compilers, emulators, packages, serial ports"
DETAILS = "Ends with the one command that installs what is missing."
EXAMPLES = ("sdk doctor", "sdk doctor --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(_args: argparse.Namespace, console: Console) -> int:
    from sdk.doctor import examine, install_commands

    checks = examine()
    rows = [("ok" if check.ok else "MISSING", check.name, check.found, check.purpose) for check in checks]
    console.table(("", "What", "Found", "For"), rows)
    commands = install_commands(checks)
    for check in checks:
        if check.remedy:
            console.say(f"\n{check.name}: {check.remedy}")
    if commands:
        console.say("\nThis installs what is missing:")
        for command in commands:
            console.say(f"  {command}")
    ok = all(check.ok for check in checks)
    console.result({"ok": ok, "checks": [vars(check) for check in checks], "commands": commands})
    return 0 if ok else ToolError.exit_code
