"""Builds a model's image for a board as `sdk build` does: the SDK writes a recipe, SCons follows it.

Of an environment in platformio.ini: `board` is a Microlith board, `custom_model` the .tflite file, `custom_optimize`
what to optimize for, `custom_sdk` the command that is the SDK (default: that of the project's .venv, of
PlatformIO's Python, or the one on PATH).
"""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
project, build = Path(env.subst("$PROJECT_DIR")), Path(env.subst("$BUILD_DIR"))
board = str(Path(env.BoardConfig().manifest_path).absolute())


def fail(text):
    """Ends the build with one line."""
    sys.stderr.write(f"Error: {text}\n")
    env.Exit(1)


def option(name, default=""):
    """What platformio.ini says."""
    return env.subst(env.GetProjectOption(name, default))


def command():
    """The words of the command `sdk`."""
    if option("custom_sdk"):
        return shlex.split(option("custom_sdk"))
    own, found = project / ".venv" / "bin" / "sdk", shutil.which("sdk")
    if own.is_file():
        return [str(own)]
    if importlib.util.find_spec("sdk") and importlib.util.find_spec("numpy"):
        return [env.subst("$PYTHONEXE"), "-m", "sdk"]
    return [found] if found else fail("there is no command sdk: pip install microlith, or set custom_sdk")


def sdk(*words):
    """Runs it in the project's folder; its exit status."""
    return subprocess.run([*command(), *words], cwd=project, check=False).returncode


def recipe():
    """What the image is made of; its model is emitted into the folder of the build."""
    if not option("custom_model"):
        fail(f"set custom_model in [env:{env['PIOENV']}]: the .tflite file")
    folder, optimize = build / "model", option("custom_optimize", "balanced")
    if sdk("build", option("custom_model"), "--board", board, "--optimize", optimize, "--recipe", "-o", str(folder)):
        env.Exit(1)
    return json.loads((folder / "recipe.json").read_bytes())


def quote(words):
    """Words as SCons hands them to a shell. It quotes those with a space itself."""
    return [(word if " " in word else shlex.quote(word)).replace("$", "$$") for word in words]


def upload(target, source, env):
    """Flashes the program that was just built."""
    port = env.subst("$UPLOAD_PORT")
    return sdk("flash", str(source[0]), "--board", board, *(["--port", port] if port else []))


def package(target, source, env):
    """Leaves beside the program what other tools flash: a merged image, a UF2 or Intel HEX file."""
    return sdk("build", str(target[0]), "--board", board, "-o", str(build))


made = recipe()
compiler = shlex.join(made["compiler"]).replace("$", "$$")
env.Replace(CC=compiler, LINK=compiler, LIBS=made["libraries"], LINKFLAGS=quote(made["link_flags"]))
env.Replace(CPPPATH=[flag[2:] for flag in made["flags"] if flag.startswith("-I")])  # where SCons looks for headers
env.Replace(CCFLAGS=quote(flag for flag in made["flags"] if not flag.startswith("-I")))
env.Replace(PROGNAME="firmware", PROGSUFFIX=".elf", SRC_FILTER="-<*>", LDSCRIPT_PATH="")  # the script is a link flag
env.Replace(SIZETOOL="size", SIZEPRINTCMD="$SIZETOOL -B -d $SOURCES", SIZECHECKCMD="$SIZETOOL -B -d $SOURCES")
env.Replace(SIZEPROGREGEXP=r"^\s*(\d+)\s+(\d+)\s")
for source in made["sources"]:
    flags = [*env["CCFLAGS"], *quote(source["flags"])]
    env.Append(PIOBUILDFILES=env.Object(str(build / source["object"]), source["path"], CCFLAGS=flags))
program = env.BuildProgram()
env.AddPostAction(program, env.VerboseAction(package, "Packaging $TARGET"))
env.AddPlatformTarget("upload", program, env.VerboseAction(upload, "Uploading $SOURCE"), "Upload")
AlwaysBuild(env.Alias("upload"))
Default(program)
