"""sdk completion"""

from __future__ import annotations

import argparse

from sdk.cli.console import Console

SUMMARY = "print what a shell needs to complete commands, boards and files with Tab"
DETAILS = ""
EXAMPLES = (
    'eval "$(sdk completion bash)"                              # in ~/.bashrc',
    'eval "$(sdk completion zsh)"                               # in ~/.zshrc, after compinit',
    "sdk completion fish > ~/.config/fish/completions/sdk.fish",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")


def run(args: argparse.Namespace, console: Console) -> int:
    from argcomplete.shell_integration import shellcode

    console.say(shellcode(["sdk"], shell=args.shell))
    return 0
