"""Gives PlatformIO the SCons of PyPI, for computers that do not reach PlatformIO's registry.

Run it by the Python that has PlatformIO and SCons: pip install platformio SCons && python firmware/platform/offline.py
It writes one package, tool-scons, into PlatformIO's packages ($PLATFORMIO_CORE_DIR or ~/.platformio).
"""

import json
import os
import sys
from pathlib import Path

SCRIPT = '"""The SCons of this Python."""\n\nimport SCons.Script\n\nSCons.Script.main()\n'


def main() -> None:
    """Writes the package, unless there is one."""
    try:
        import SCons  # noqa: F401 - to know that it is there
        from platformio.dependencies import get_core_dependencies
    except ImportError as error:
        sys.exit(f"error: {error}\n{sys.executable} -m pip install platformio SCons")
    core = Path(os.environ.get("PLATFORMIO_CORE_DIR") or Path.home() / ".platformio")
    folder = core / "packages" / "tool-scons"
    if folder.exists():
        sys.exit(f"{folder} is there already")
    version = get_core_dependencies()["tool-scons"].lstrip("~^=")
    package = {"name": "tool-scons", "version": version}
    spec = {"owner": "platformio", "id": None, "name": "tool-scons", "requirements": None, "uri": None}
    folder.mkdir(parents=True)
    (folder / "scons.py").write_text(SCRIPT)
    (folder / "package.json").write_text(json.dumps({**package, "system": "*"}))
    (folder / ".piopm").write_text(json.dumps({"type": "tool", **package, "spec": spec}))
    (folder / ".piokeep").touch()
    print(f"wrote {folder}")


if __name__ == "__main__":
    main()
