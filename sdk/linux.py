"""What a Linux board gets beside an image: the Python runtime in an environment of its own, models, and services.

    host = Host(load_board("rpi5"), "pi@raspberrypi.local")
    install_runtime(host)
    install_model(host, Path("model.tflite"), lowered.block)
    uninstall(host)

All of it lies in `~/.microlith` there: env, wheels, images, models/NAME/VERSION, and models/NAME/current.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.cache import Progress, silent
from sdk.errors import ToolError
from sdk.flash.ssh import FOLDER, SWITCH, Host
from sdk.front_end import program_of
from sdk.preprocess import attached
from sdk.runtime.listener import FRONT_END
from sdk.runtime.litert import MODULES, PACKAGES
from sdk.runtime.origin import with_origin
from sdk.shared_library import make_wheel

PYTHON = f"{FOLDER}/env/bin/python"
OLDEST_PYTHON = (3, 11)

PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
# The board's own packages are seen: libcamera is nowhere else, and numpy of 32-bit systems comes from apt.
MAKE_ENVIRONMENT = f"""cd {FOLDER} && rm -f env/ready && {{ test -x env/bin/pip || \
python3 -m venv --clear --system-site-packages env; }} && \
env/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall "$1" """
NO_WHEEL, NO_INDEX = "No matching distribution", "pip does not reach its index"
# $1: a module, $2: its package; then pip's options. pip says NO_WHEEL without a network, too, after warnings.
BRING = f"""cd {FOLDER} && module=$1 package=$2 && shift 2 && {{ env/bin/python -c "import $module" 2>/dev/null || \
told=$(env/bin/pip install --quiet --disable-pip-version-check --retries 2 "$@" "$package" 2>&1) || {{ case $told in \
*Retrying*|*"Could not fetch"*|*"ssl cert"*) told="{NO_INDEX}";; esac; \
echo "$told" >&2; exit 1; }}; }}"""
UNITS = ".config/systemd/user"
UNIT = """[Unit]
Description=Microlith: {name}

[Service]
ExecStart=%h/{python} -m sdk.camera %h/{model} --source {camera} --json
SuccessExitStatus=143
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""
LINGERS = f"{FOLDER}/lingers"  # there if services run without a login because of this
# Restarted: one that runs would stay with the model that it has loaded.
START_SERVICE = f"""systemctl --user daemon-reload && systemctl --user enable --quiet $1 && \
systemctl --user restart $1 && {{ test -e "/var/lib/systemd/linger/$(id -un)" || \
{{ loginctl enable-linger 2>/dev/null && touch {LINGERS}; }} || \
echo 'it ends when you log out: sudo loginctl enable-linger'; }}"""
RESTART_SERVICE = f"""! test -e "{UNITS}/$1" || systemctl --user restart "$1" """
UNINSTALL = f"""services=; for unit in {UNITS}/microlith-*.service; do test -e "$unit" || continue; \
services=some; name=$(basename "$unit"); systemctl --user disable --quiet --now "$name" 2>/dev/null; \
rm -f "$unit" "{UNITS}/default.target.wants/$name"; done; \
test -z "$services" || systemctl --user daemon-reload 2>/dev/null; \
! test -e {LINGERS} || loginctl disable-linger 2>/dev/null; rm -rf {FOLDER}"""


@dataclass(frozen=True)
class Installed:
    """A model on a board: what runs it there, with how many threads, and the milliseconds of an inference."""

    name: str
    path: str  # in the home there
    engine: str
    threads: int
    ms: float


def install_runtime(host: Host, wheels: Path | None = None, progress: Progress = silent) -> None:
    """Brings the runtime and its engine there, if they are not. `wheels`: a folder of wheels to send along, for a board
    without the Internet. A board for which there is no wheel of its engine does with the C interpreter."""
    _check_python(host)
    own, digest = _wheel(host)
    if host.run(f"cat {FOLDER}/env/ready 2>/dev/null || true") == digest:
        return
    progress(f"install the runtime on {host.name}")
    host.put(own[1], f"{FOLDER}/wheels/{own[0]}")
    options = []
    if wheels is not None:
        for path in sorted(wheels.glob("*.whl")):
            host.put(path.read_bytes(), f"{FOLDER}/wheels/{path.name}")
        options = ["--no-index", "--find-links", "wheels"]
    host.run(MAKE_ENVIRONMENT, f"wheels/{own[0]}")
    for module, package in (("numpy", "numpy"), ("PIL", "Pillow")):
        _bring(host, module, package, options)
    if _bring_engine(host, options, progress):
        host.run(f"echo {digest} > {FOLDER}/env/ready")


def _bring(host: Host, module: str, package: str, options: Sequence[str]) -> None:
    """Installs a package there, unless its module is there. ToolError."""
    try:
        host.run(BRING, module, package, *options)
    except ToolError as error:
        if NO_INDEX in error.message:
            raise ToolError(error.message, "Connect it to the Internet, or send wheels along: --wheels DIR") from error
        if NO_WHEEL in error.message and options:
            raise ToolError(error.message, f"Put a wheel of {package} for the board into the folder.") from error
        raise


def _bring_engine(host: Host, options: Sequence[str], progress: Progress) -> bool:
    """Whether this is all there is to bring: an engine is there, or the package index has none for this board. A folder
    of wheels or a network that fails may do better the next time."""
    engine, settled = str(host.board.flashers["ssh"]["engine"]), not options
    for name in dict.fromkeys((engine, "tflite")) if engine in PACKAGES else ():
        try:
            _bring(host, MODULES[name], PACKAGES[name], options)
        except ToolError as error:
            progress(f"{PACKAGES[name]} does not go there: {error.message}")
            settled = settled and NO_WHEEL in error.message
        else:
            return True
    return settled or engine not in PACKAGES


def _check_python(host: Host) -> None:
    try:
        version = tuple(map(int, host.run('exec python3 -c "$1"', PROBE).split()))
    except (ToolError, ValueError) as error:
        remedy = "On the board: sudo apt-get install python3-venv"
        raise ToolError(f"{host.name} has no Python 3 that makes environments", remedy) from error
    if version < OLDEST_PYTHON:
        raise ToolError(
            f"{host.name} has Python {'.'.join(map(str, version))}; the runtime needs 3.11",
            "Bring its system to Debian 12 (bookworm) or newer. `sdk verify` works without Python.",
        )


def _wheel(host: Host) -> tuple[tuple[str, bytes], str]:
    """The name and content of the wheel of the runtime for this board, and what tells it from others."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_wheel(Path(folder), [str(host.board.flashers["ssh"]["library"])])
        data = path.read_bytes()
    return (path.name, data), hashlib.sha256(data).hexdigest()


def install_model(host: Host, model: Path, program: bytes, progress: Progress = silent) -> Installed:
    """Brings a model there, beside its program and what it declares of its input, tries it, and puts it into the place
    of the one of the same name. That stays as it is if the new one does not run."""
    name = model_name(model)
    data = model.read_bytes()
    files = {"model.tflite": data, "model.mlith": with_origin(program, data)}
    declared = attached(data)
    if declared is not None:
        files["model.json"] = declared.to_json().encode()
    features = program_of(data, declared)
    if features is not None:
        files[f"model{FRONT_END}"] = features
    version = hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    folder = f"{FOLDER}/models/{name}/{version}"
    for file, content in files.items():
        progress(f"copy {file} of {name} to {host.name}")
        host.put(content, f"{folder}/{file}")
    progress(f"try {name} on {host.name}")
    words = [f"{folder}/model.tflite", *_engine(host)]
    about = json.loads(host.run('exec "$@"', PYTHON, "-m", "sdk.runtime", *words).splitlines()[-1])
    host.run(SWITCH, f"{FOLDER}/models/{name}", version)
    return Installed(name, f"{FOLDER}/models/{name}/current/model.tflite", **about)


def _engine(host: Host) -> list[str]:
    """The engine as an option; none where the runtime is to choose among those that are there."""
    engine = str(host.board.flashers["ssh"]["engine"])
    return [] if engine in PACKAGES else ["--engine", engine]


def model_name(model: Path) -> str:
    """What a model is called on a board: its file's name, as far as a path and a service can be called so."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", model.stem).strip("-") or "model"


def start_service(host: Host, installed: Installed) -> str:
    """Starts the camera loop of a model now and at each start of the board; returns what else there is to say."""
    if host.run("command -v systemctl >/dev/null && echo there || true") != "there":
        raise ToolError(f"{host.name} has no systemd", f"Start it by hand: {PYTHON} -m sdk.camera {installed.path}")
    camera = str(host.board.flashers["ssh"]["camera"])
    unit = UNIT.format(name=installed.name, python=PYTHON, model=installed.path, camera=camera)
    host.put(unit.encode(), f"{UNITS}/{_service(installed)}")
    return host.run(START_SERVICE, _service(installed))


def restart_service(host: Host, installed: Installed) -> None:
    """Lets the camera loop of a model, if the board has one, load what is installed now."""
    host.run(RESTART_SERVICE, _service(installed))


def _service(installed: Installed) -> str:
    return f"microlith-{installed.name}.service"


def uninstall(host: Host) -> None:
    """Removes all that was ever put there, services included."""
    host.run(UNINSTALL)
