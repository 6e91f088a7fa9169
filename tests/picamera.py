"""picamera2 as published, without a camera: libcamera's virtual pipeline shows pictures of digits to the camera loop.

python tests/picamera.py      `make test-camera` installs what it needs; as root, for debootstrap and chroot

A Debian root with libcamera is made once, in the cache. The kernel's heaps for DMA buffers, a screen's library and raw
modes are what this computer has not, and are stood in for; frames, formats and picamera2 itself are real.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import sdk
from sdk.cache import cache_dir
from sdk.shared_library import make_wheel

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
RELEASE = "trixie"  # the first whose libcamera has the virtual pipeline
DEBS = "python3 python3-numpy python3-pil python3-libcamera libcamera-ipa python3-av python3-jsonschema python3-piexif"
DEBS += " python3-prctl python3-tqdm python3-libarchive-c"
WHEELS = ["picamera2==0.3.38", "simplejpeg==1.9.0", "videodev2==0.0.4"]
SITE, FRAMES = "opt/site", "frames"
PIPELINE = """"Virtual0":
  supported_formats:
  - width: 640
    height: 480
    frame_rates:
    - 30
  frames:
    path: "/frames/"
  location: "CameraLocationFront"
  model: "Folder"
"""
# Instead of the kernel's heaps of DMA buffers: files in memory.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define OPEN(name)                                                                             \
    int name(const char *path, int flags, ...) {                                               \
        va_list rest;                                                                          \
        va_start(rest, flags);                                                                 \
        int mode = va_arg(rest, int);                                                          \
        va_end(rest);                                                                          \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                         \
        return real(strncmp(path, "/dev/dma_heap/", 14) ? path : "/dev/null", flags, mode);    \
    }
OPEN(open)
OPEN(open64)

int ioctl(int file, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if ((unsigned)request == (unsigned)DMA_HEAP_IOCTL_ALLOC) {
        struct dma_heap_allocation_data *asked = argument;
        int made = memfd_create("frame", MFD_CLOEXEC);
        asked->fd = (unsigned)made;
        return made < 0 ? made : ftruncate(made, (off_t)asked->len);
    }
    if ((unsigned)request == (unsigned)DMA_BUF_IOCTL_SYNC || (request & 0xffff) == (DMA_BUF_SET_NAME_A & 0xffff)) {
        return 0;
    }
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(file, request, argument);
}
"""
# What a camera without a sensor lacks; then the program that users start. `Any` is what previews on screens ask for.
CHILD = """
import sys, types
class Any:
    def __getattr__(self, name):
        return name
pykms = sys.modules["pykms"] = types.ModuleType("pykms")
pykms.PixelFormat = Any()
pidng = sys.modules["pidng"] = types.ModuleType("pidng")
for name, words in (("camdefs", "Picamera2Camera"), ("core", "PICAM2DNG"), ("defs", "")):
    module = sys.modules["pidng." + name] = types.ModuleType("pidng." + name)
    for word in words.split():
        setattr(module, word, type(word, (), {}))
from picamera2 import Picamera2
from picamera2.allocators import LibcameraAllocator
first = Picamera2.__init__
def init(self, *args, **options):
    first(self, *args, **options)
    self.allocator = LibcameraAllocator(self.camera)
Picamera2.__init__ = init
Picamera2._get_raw_modes = lambda self: [{"size": (640, 480), "format": "NV12"}]
from sdk.camera.__main__ import main
sys.exit(main())
"""


def make_root() -> Path:
    """A folder with Debian, libcamera and picamera2, made if it is not there."""
    folder = cache_dir("picamera")
    root = folder / "root"
    if (folder / "ready").is_file():
        return root
    print(f"making a Debian root in {root}: some minutes")
    include = f"--include={DEBS.replace(' ', ',')}"
    subprocess.run(
        ["debootstrap", "--variant=minbase", include, RELEASE, str(root)], check=True, stdout=subprocess.DEVNULL
    )
    words = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "313", "--target", str(root / SITE)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words, *WHEELS], check=True)
    (folder / "ready").touch()
    return root


def equip(root: Path) -> None:
    """What is this project's in the root: the virtual camera, the shim, the runtime, a model."""
    folder, pipeline = root.parent, root / "usr/share/libcamera/pipeline/virtual/virtual.yaml"
    pipeline.parent.mkdir(parents=True, exist_ok=True)
    pipeline.write_text(PIPELINE)
    (folder / "shim.c").write_text(SHIM)
    shim = ["gcc", "-shared", "-fPIC", str(folder / "shim.c"), "-o", str(root / "opt/shim.so"), "-ldl"]
    subprocess.run(shim, check=True)
    wheel = make_wheel(folder, [platform.machine()])
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(root / "opt/runtime")], check=True)
    (root / "opt" / "digits_int8.mlith").write_bytes(sdk.lower(sdk.load(MODEL), sdk.Target()).block)


def show(root: Path, digit: int) -> None:
    """Makes pictures of this digit what the camera sees."""
    data, folder = load_digits(), root / FRAMES
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, image in enumerate(data.images[-400:][data.target[-400:] == digit][:5]):
        pixels = np.zeros((480, 640), np.uint8)
        pixels[:, 80:560] = np.kron(np.round(image * 255 / 16).astype(np.uint8), np.ones((60, 60), np.uint8))
        Image.fromarray(pixels).convert("RGB").save(folder / f"{number:03}.jpg", quality=95)


def watch(root: Path, count: int) -> list[dict[str, object]]:
    """What the camera loop tells of so many frames."""
    environment = ["LD_PRELOAD=/opt/shim.so", f"PYTHONPATH=/{SITE}:/opt/runtime", "LIBCAMERA_LOG_LEVELS=*:ERROR"]
    words = ["/opt/digits_int8.mlith", "--source", "picamera2", "--count", str(count), "--json", "--threshold", "0"]
    command = ["chroot", str(root), "env", *environment, "python3", "-c", CHILD, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        sys.exit(f"the camera loop failed there:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> int:
    """See the module's text."""
    if os.geteuid():
        sys.exit("debootstrap and chroot need root. Run it as root: sudo make test-camera")
    root, start = make_root(), time.monotonic()
    equip(root)
    right = total = 0
    for digit in (0, 4, 7):
        show(root, digit)
        lines = watch(root, 30)
        hits = sum(line["label"] == str(digit) for line in lines)
        print(f"{digit}: {hits} of {len(lines)} frames right, {lines[-1]['fps']} frames a second")
        right, total = right + hits, total + len(lines)
    print(f"{right} of {total} right, {time.monotonic() - start:.0f} s")
    return 0 if total == 90 and right >= 0.9 * total else 1


if __name__ == "__main__":
    sys.exit(main())
