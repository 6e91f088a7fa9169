"""Linux boards over SSH: a real sshd on this computer stands for one, with keys and a home of its own."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdk.boards import Board, load_board
from sdk.cache import silent
from sdk.cli import main
from sdk.deploy import deployed, make_image, prepare
from sdk.errors import FitError, LinkError, ToolError, UsageError, VerifyError
from sdk.flash import connect, flash
from sdk.flash.native import ProcessTransport
from sdk.flash.ssh import RECEIVE, SWITCH, Host
from sdk.link.device import Device
from sdk.linux import (
    Installed,
    _bring,
    install_model,
    install_runtime,
    restart_service,
    start_service,
    uninstall,
)
from sdk.load import load
from sdk.oracle import Oracle
from sdk.paths import BOARDS
from sdk.preprocess import Picture, Preprocessing, attach
from sdk.remote import RemoteRuntime
from sdk.sound import Features, Sound
from sdk.verify import verify

DIGITS = Path("examples/digits/digits_int8.tflite")
USER = getpass.getuser()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a host's key and a user's."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "user", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the board takes for the home of its user."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def port(keys: Path, home: Path) -> Iterator[int]:
    """That of a running sshd."""
    unpacked = Path(sys.prefix) / "sshd"  # by setup.sh
    places = (Path("/usr/sbin/sshd"), unpacked / "usr" / "sbin" / "sshd")
    server = next((path for path in places if path.exists()), None)
    if server is None:
        pytest.skip("sshd is not on this machine: ./setup.sh --tests")
    libraries = ":".join(map(str, unpacked.glob("usr/lib/*-linux-gnu")))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # what sshd wants of root
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    tools, packages = Path(sys.executable).parent, Path(np.__file__).parents[1]
    (keys / "authorized").write_text((keys / "user.pub").read_text())
    (keys / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{number}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        # Its system's Python has numpy and the engines, as apt would bring them.
        f"ForceCommand export HOME={home} PATH={home}/bin:{tools}:$PATH PYTHONPATH={packages}; "
        f'cd {home} && eval "$SSH_ORIGINAL_COMMAND"\n'
    )
    command = [server, "-D", "-q", "-f", str(keys / "sshd_config")]
    sessions = unpacked / "usr" / "lib" / "openssh" / "sshd-session"
    if server != places[0] and sessions.exists():  # since OpenSSH 9.8
        command += ["-o", f"SshdSessionPath={sessions}", "-o", f"SshdAuthPath={sessions.with_name('sshd-auth')}"]
    with subprocess.Popen(command, env={**os.environ, "LD_LIBRARY_PATH": libraries}) as daemon:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.02)
        yield number
        daemon.terminate()


@pytest.fixture
def client(keys: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration of ssh, which knows the board as `pi`."""
    key = (keys / "host.pub").read_text()
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
    config = keys / "ssh_config"
    config.write_text(
        f"Host pi\n HostName 127.0.0.1\n Port {port}\n User {USER}\n IdentityFile {keys}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {keys}/known_hosts\n GlobalKnownHostsFile none\n"
    )
    monkeypatch.setenv("MICROLITH_SSH", f"ssh -F {config}")
    return config


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """A Raspberry Pi's file, but for the machine."""
    manifest: dict[str, Any] = json.loads((BOARDS / "rpi5.json").read_text())
    manifest["build"]["extra_flags"] = "-static"
    manifest["microlith"] |= {"compiler": "gcc"}
    machine = os.uname().machine
    manifest["microlith"]["ssh"] |= {"machine": machine, "library": machine}
    path = tmp_path_factory.mktemp("boards") / "linux.json"
    path.write_text(json.dumps(manifest))
    return load_board(str(path))


@pytest.mark.usefixtures("client")
def test_exact_over_ssh(linux: Board, home: Path) -> None:
    """Every tensor of the model, by the same protocol as of any board."""
    lowered = prepare(load(DIGITS), linux)
    from sdk.inputs import random_samples

    samples = [sample.arrays for sample in random_samples(lowered.inputs, 3, 0)]
    with deployed(lowered, linux, port="pi") as target, Oracle(DIGITS.read_bytes()) as oracle:
        verdict = verify(target.device, lowered, oracle, samples, layers=True)
        assert verdict.ok
        assert verdict.compared > 1000
        assert target.device.transport.name == "linux (pi)"
    with Device(connect(linux, port="pi"), board_id="linux") as device:
        assert device.info.holds(lowered.block)
    assert (home / ".microlith/images/current/image").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("client")
def test_commands(linux: Board, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--board", str(linux.path), "--host", "pi"]
    assert main(["verify", str(DIGITS), *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(["bench", str(DIGITS), *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ns"] > 0
    assert main(["monitor", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["board_id"] == "linux"


@pytest.mark.usefixtures("client")
def test_old_image_stays_until_the_new_one_answers(linux: Board, home: Path, tmp_path: Path) -> None:
    image = make_image(prepare(load(DIGITS), linux), linux)
    flash(linux, image, port="pi").close()
    current = (home / ".microlith/images/current").resolve()
    for content in (b"#!/bin/sh\nexit 3\n", b"no program"):
        (tmp_path / "bad.elf").write_bytes(content)
        with pytest.raises(LinkError):
            flash(linux, replace(image, elf=tmp_path / "bad.elf"), port="pi")
        assert (home / ".microlith/images/current").resolve() == current
    transport = connect(linux, port="pi")
    Device(transport, board_id="linux").close()


def test_what_cannot_be_reached(linux: Board, client: Path, keys: Path, port: int) -> None:
    def told(text: str) -> None:
        with pytest.raises(LinkError, match=text) as caught:
            connect(linux, port="pi")
        assert caught.value.remedy

    good = client.read_text()
    (keys / "known_hosts").write_text("")
    told("host key is not known")
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {(keys / 'other.pub').read_text()}")
    told("host key is not the one that is known")
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {(keys / 'host.pub').read_text()}")
    client.write_text(good.replace(f"{keys}/user\n", f"{keys}/other\n"))
    told("Permission denied")
    client.write_text(good.replace(f"Port {port}", "Port 1"))
    told("refused")
    with pytest.raises(UsageError, match="is reached over SSH"):
        connect(linux)
    with pytest.raises(UsageError, match="not the name of a host"):
        connect(linux, port="-oProxyCommand=touch /tmp/x")


@pytest.mark.usefixtures("client")
def test_wrong_machine() -> None:
    with pytest.raises(LinkError, match=f"no rpi5: its machine is {os.uname().machine}"):
        Host(load_board("rpi5"), "pi").check_machine()


@pytest.mark.usefixtures("client")
def test_files_are_whole_or_not_there(linux: Board, home: Path) -> None:
    host = Host(linux, "pi")
    host.put(b"one", "some folder/it's a file")
    assert (home / "some folder/it's a file").stat().st_mode & 0o777 == 0o600  # systemd minds a unit that can run
    path = home / "some folder" / "it's a file"
    assert path.read_bytes() == b"one"
    cat = stand_in(home, "cat", "exec /bin/cat > /dev/full")
    try:
        with pytest.raises(ToolError, match="No space left"):
            host.put(b"two", "some folder/full")
    finally:
        cat.unlink()
    assert list((home / "some folder").iterdir()) == [path]  # nothing half stays on a disk that is full
    with pytest.raises(FitError, match="KiB left for big"):
        host.put(Huge(), "big")
    assert not (home / "big").exists()


class Huge(bytes):
    """More than any disk holds."""

    def __len__(self) -> int:
        return 1 << 60


@pytest.mark.usefixtures("client")
def test_runtime_is_installed_used_and_removed(
    linux: Board, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--board", str(linux.path), "--host", "pi", "--json"]
    assert main(["flash", str(DIGITS), *where]) == 0
    runtime = json.loads(capsys.readouterr().out)["runtime"]
    assert runtime["engine"] in ("ai-edge-litert", "tflite-runtime")
    assert runtime["ms"] > 0
    current = home / runtime["path"]
    assert current.read_bytes() == DIGITS.read_bytes()

    words = ["verify", str(DIGITS), *where, "--engine", "microlith"]
    assert main(words) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"]
    assert verdict["compared"] == 50

    host = Host(linux, "pi")
    features = Features(bands=8)
    heard = tmp_path / "heard.tflite"
    heard.write_bytes(
        attach(DIGITS.read_bytes(), Preprocessing(sound=Sound(features.span(8, 16000), features=features)))
    )
    sent = home / install_model(host, heard, prepare(load(heard), linux).block).path
    listen = "import sys; from sdk.runtime import Listener, Runtime; print(Listener(Runtime(sys.argv[1])).stride)"
    assert host.run('exec "$@"', ".microlith/env/bin/python", "-c", listen, str(sent)) == "320"
    own = Host(replace(linux, flashers={"ssh": {**linux.flashers["ssh"], "engine": "microlith"}}), "pi")
    with pytest.raises(ToolError, match="Lower the model again"):
        install_model(own, DIGITS, prepare(load(DIGITS), linux).block[:-16] + bytes(16))
    assert current.read_bytes() == DIGITS.read_bytes()

    with pytest.raises(LinkError, match="cannot read"), RemoteRuntime(host, "none", "microlith") as remote:
        remote.reset_state()

    assert main(["uninstall", *where]) == 0
    assert not (home / ".microlith").exists()


@pytest.mark.usefixtures("client")
def test_frames_of_the_board(linux: Board, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder there is its camera: what it computes is brought back with the frames, and compared."""
    rng = np.random.default_rng(0)
    (home / "seen").mkdir()
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(home / "seen" / f"{number}.png")
    words = ["verify", str(DIGITS), "--board", str(linux.path), "--host", "pi", "--json", "--output", str(tmp_path)]
    try:
        assert main([*words, "--camera", "seen", "--engine", "litert", "--reference-kernels"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["ok"], found["frames"], found["differing"]) == (True, 3, [])
        assert main([*words, "--camera", "seen", "--count", "2"]) == 0
        assert json.loads(capsys.readouterr().out)["frames"] == 2
        assert main([*words, "--camera"]) == LinkError.exit_code  # its own: picamera2
        assert "picamera2 is missing" in capsys.readouterr().err
        beside = (home / ".microlith/models/digits_int8/current").resolve() / "model.json"
        beside.write_text(Preprocessing(picture=Picture(8, 8, 1, mean=(128.0,))).to_json())  # nobody else knows of it
        assert main([*words, "--camera", "seen"]) == VerifyError.exit_code
        found = json.loads(capsys.readouterr().out)
        assert (found["ok"], found["frames"]) == (False, 3)
        assert [(each["inputs"] > 0, each["outputs"]) for each in found["differing"]] == [(True, 0)] * 3
        for each in found["differing"]:
            with (
                Image.open(each["picture"]) as kept,
                Image.open(each["name"].replace("seen", str(home / "seen"))) as was,
            ):
                np.testing.assert_array_equal(np.asarray(kept), np.asarray(was))
    finally:
        uninstall(Host(linux, "pi"))


@pytest.mark.usefixtures("client")
def test_what_has_ended_is_told_and_left(linux: Board) -> None:
    remote = RemoteRuntime(Host(linux, "pi"), "none", "microlith")
    remote._process.wait()
    with pytest.raises(LinkError, match=r"the runtime on pi: "):
        remote.run([np.zeros(1 << 20, np.int8)])
    remote.close()


def stand_in(home: Path, name: str, script: str) -> Path:
    """A program of the board that is not the one of this computer."""
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("says", ["exit 1", "echo; echo /dev/root 1 2 - 3%"])
def test_unknown_room(linux: Board, home: Path, says: str) -> None:
    df = stand_in(home, "df", says)
    try:
        with pytest.raises(LinkError, match="how much room"):
            Host(linux, "pi").put(b"one", "anything")
    finally:
        df.unlink()


@pytest.mark.usefixtures("client")
def test_a_service_loads_the_new_model(linux: Board, home: Path) -> None:
    """No service manager of a user runs here: what it is told is written down."""
    told, host = home / "told", Host(linux, "pi")
    systemctl = stand_in(home, "systemctl", f'echo "$@" >> {told}')
    loginctl = stand_in(home, "loginctl", f'echo "$@" >> {told}')
    installed = Installed("a", ".microlith/models/a/current/model.tflite", "x", 1, 1.0)
    (home / ".microlith").mkdir(exist_ok=True)
    try:
        restart_service(host, installed)
        assert not told.exists()
        start_service(host, installed)
        unit = home / ".config/systemd/user/microlith-a.service"
        assert "-m sdk.camera" in unit.read_text()
        assert told.read_text().splitlines()[1:] == [
            "--user enable --quiet microlith-a.service",
            "--user restart microlith-a.service",
            "enable-linger",
        ]
        told.unlink()
        restart_service(host, installed)
        assert told.read_text() == "--user restart microlith-a.service\n"
        told.unlink()
        uninstall(host)
        assert told.read_text().splitlines() == [
            "--user disable --quiet --now microlith-a.service",
            "--user daemon-reload",
            "disable-linger",
        ]
    finally:
        systemctl.unlink()
        loginctl.unlink()
    assert not unit.exists()


@pytest.mark.usefixtures("client")
def test_two_deployments_at_once(linux: Board, home: Path) -> None:
    """Each has copied its version before the other is put in place: `current` names one that is whole."""
    host, folder = Host(linux, "pi"), home / ".microlith" / "models" / "two"
    try:
        for version in ("old", "a"):
            host.put(version.encode(), f".microlith/models/two/{version}/model")
            host.run(SWITCH, ".microlith/models/two", version)
        for version in ("b", "c"):
            host.put(version.encode(), f".microlith/models/two/{version}/model")
        host.run(SWITCH, ".microlith/models/two", "b")
        with pytest.raises(ToolError, match="deploy again"):
            host.run(SWITCH, ".microlith/models/two", "c")
        assert (folder / "current" / "model").read_text() == "b"
        assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == ["a", "b", "current"]
    finally:
        uninstall(host)


@pytest.mark.usefixtures("client")
def test_one_file_sent_twice_at_once(linux: Board, home: Path) -> None:
    host, data = Host(linux, "pi"), bytes(range(256)) * 8000
    digest = hashlib.sha256(data).hexdigest()
    command = host.command(RECEIVE, "twice", digest, "600")
    try:
        senders = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
        for part in (data[:1000], data[1000:]):
            for sender in senders:
                assert sender.stdin is not None
                sender.stdin.write(part)
                sender.stdin.flush()
        for sender in senders:
            sender.communicate()
        assert [sender.returncode for sender in senders] == [0, 0]
        assert (home / "twice").read_bytes() == data
        assert list(home.glob("twice.*")) == []
    finally:
        (home / "twice").unlink(missing_ok=True)


@pytest.mark.usefixtures("client")
def test_an_engine_that_did_not_come_is_tried_again(linux: Board, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdk.linux.MODULES", dict.fromkeys(("litert", "tflite"), "no_such_module"))
    monkeypatch.setattr("sdk.linux.PACKAGES", dict.fromkeys(("litert", "tflite"), "no-such-package"))
    host, ready, said = Host(linux, "pi"), home / ".microlith/env/ready", list[str]()
    index = home / "simple" / "no-such-package"
    index.mkdir(parents=True)
    (index / "index.html").write_text("<!DOCTYPE html><html><body></body></html>")
    settings = home / ".config/pip/pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    try:
        settings.write_text("[global]\nindex-url = http://127.0.0.1:1/simple\nretries = 1\n")
        install_runtime(host, progress=said.append)
        assert "does not reach its index" in said[-1]
        assert not ready.exists()
        settings.write_text(f"[global]\nindex-url = file://{home}/simple\n")
        install_runtime(host, progress=said.append)
        assert "No matching distribution" in said[-1]
        assert ready.exists()
    finally:
        settings.unlink()
        uninstall(host)


@pytest.mark.usefixtures("client")
def test_wheels_are_sent_along(
    linux: Board, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a board whose package index does not answer: a wheel that comes along is installed by pip there."""
    monkeypatch.setattr("sdk.linux.MODULES", {"litert": "sent_along"})
    monkeypatch.setattr("sdk.linux.PACKAGES", {"litert": "sent-along"})
    info = "sent_along-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "sent_along-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sent_along.py", "HERE = 1\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: sent-along\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"sent_along.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    host, settings = Host(linux, "pi"), home / ".config/pip/pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[global]\nindex-url = http://127.0.0.1:1/simple\n")
    try:
        install_runtime(host, tmp_path)
        assert host.run(".microlith/env/bin/python -c 'import sent_along; print(sent_along.HERE)'") == "1"
        assert (home / ".microlith/env/ready").exists()
        for options, remedy in (([], "--wheels DIR"), (["--no-index"], "a wheel of no-such for the board")):
            with pytest.raises(ToolError) as caught:
                _bring(host, "no_such", "no-such", options)
            assert remedy in str(caught.value)
    finally:
        settings.unlink()
        uninstall(host)
    (tmp_path / "none").mkdir()
    words = ["flash", str(DIGITS), "--board", str(linux.path), "--host", "pi", "--wheels", str(tmp_path / "none")]
    assert main(words) == UsageError.exit_code
    assert "no wheels are in" in capsys.readouterr().err


EMULATORS = {
    "rpi5": ("qemu-aarch64-static", "-cpu", "cortex-a76"),
    "rpi-zero": ("qemu-arm-static", "-cpu", "arm1176"),
}


@pytest.mark.parametrize("board_id", EMULATORS)
def test_exact_on_arm(board_id: str) -> None:
    """The image that a Raspberry Pi gets, on an emulated core of its kind."""
    board, emulator = load_board(board_id), EMULATORS[board_id]
    for program in (emulator[0], board.compiler):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine")
    from sdk.inputs import random_samples

    lowered = prepare(load(DIGITS), board)
    samples = [sample.arrays for sample in random_samples(lowered.inputs, 2, 0)]
    transport = ProcessTransport(board_id, [*emulator, str(make_image(lowered, board, silent).elf)])
    with Device(transport, board_id=board_id) as device, Oracle(DIGITS.read_bytes()) as oracle:
        device.open_resident()
        verdict = verify(device, lowered, oracle, samples, layers=True)
    assert verdict.ok
    assert verdict.compared > 1000
