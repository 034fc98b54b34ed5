"""The worker's side: warm up before the fork, lock down after it, then serve runs one after the other.

Does not decide about time: the pool kills a worker that does not answer. Pictures that were sent once stay resident under their key.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import mmap
import os
import resource
import signal
import socket
import sys
from typing import Any

import cv2
import numpy as np
from PIL import Image

from codevision_lite.sandbox import budget, inline, seccomp, wire
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.run import Run

RESIDENT_MB = 512  # pictures that stay in a worker; the pool keeps count
KEEP_FD_BELOW = 64
WARM_S = 60.0

LAZY_MODULES = (  # imported by libraries inside functions, when no file can be opened any more
    "heapq",
    "_strptime",
    "locale",
    "decimal",
    "fractions",
    "statistics",
    "bisect",
    "queue",
    "textwrap",
    "colorsys",
    "calendar",
    "unicodedata",
    "numpy.random",
    "numpy.fft",
    "numpy.linalg",
    "numpy.lib.stride_tricks",
    "numpy._core._methods",
    "numpy._core._exceptions",
    "traceback",
    "PIL.ImageMode",
    "PIL.ImagePalette",
    "PIL.ImageCms",
    "PIL.ImageSequence",
    "PIL.ExifTags",
    "PIL.ImageTransform",
    "PIL.GifImagePlugin",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.WebPImagePlugin",
    "PIL.BmpImagePlugin",
    "zoneinfo",
    "stringprep",
    "linecache",
    "tokenize",
)
WARM_CODE = """
import numpy as np, cv2, json, re, random, datetime
from collections import Counter
n = Counter('abca').most_common(1), sorted([3, 1]), random.sample(range(9), 2), np.unique(np.arange(4)), np.median(np.arange(9.0))
d = datetime.datetime.strptime('2024-01-02', '%Y-%m-%d')
font = ImageFont.load_default(20)
ImageDraw.Draw(image).text((5, 5), 'Az09', fill='red', font=font)
arr = np.array(image)
x = np.linalg.svd(np.random.rand(8, 8)), np.fft.fft2(np.ones((8, 8))), np.array(image.convert('L').getdata())
g = cv2.cvtColor(arr, cv2.COLOR_RGB2GRAY)
e = cv2.Canny(cv2.GaussianBlur(cv2.resize(g, (40, 30)), (3, 3), 0), 50, 150)
c = cv2.createCLAHE(2.0, (8, 8)).apply(g)
for k in ('PNG', 'JPEG', 'BMP', 'WEBP', 'GIF'):
    b = io.BytesIO()
    image.save(b, format=k)
    Image.open(io.BytesIO(b.getvalue()))
m = re.match(r'a(b)', 'ab').group(1)
t = datetime.datetime.now().strftime('%Y-%m-%d'), 'é'.encode('utf-8').decode('latin-1'), 'a'.encode('ascii'), 'a'.encode('utf-16')
q = image.quantize(8).convert('RGB').filter(ImageFilter.GaussianBlur(1)).rotate(5)
s = json.dumps(json.loads('[1.5, "x"]')), f'{3.14159:.2f}', '%d' % 3
result = ImageEnhance.Contrast(image).enhance(1.5)
"""


def warm_up() -> None:
    """Touch every lazy path once (plugins, codecs, fonts, linear algebra): after the filter nothing can be opened."""
    Image.core.set_blocks_max(8)  # freed picture memory is reused: a page fault costs more than the pixels on it
    cv2.setNumThreads(0)  # one thread before the fork; the filter allows no new ones
    cv2.ocl.setUseOpenCL(False)
    limits = Limits(wall_s=WARM_S, cpu_s=WARM_S)  # not the run's own: a first call may take longer than a run is given
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8))
    run = inline.execute(WARM_CODE, [picture], 0, limits)
    if run.status != "ok":
        raise RuntimeError(f"the sandbox does not work here: {run.message}")
    Image.init()
    for name in LAZY_MODULES:
        importlib.import_module(name)
    for codec in ("idna", "cp1252", "utf-8", "utf-16", "utf-32", "latin-1", "ascii", "punycode", "raw_unicode_escape"):
        "a".encode(codec)
    picture.save(io.BytesIO(), "PNG")
    inline.execute("x = undefined_name", [picture], 0, limits)
    inline.execute("1 +", [picture], 0, limits)


def main(fds: list[int], parent: int, limits: Limits, seed: int) -> None:
    """Never returns: ends with the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=fds[0])
    shared = mmap.mmap(fds[1], wire.SHARED_BYTES) if len(fds) > 1 else None
    isolation = lock_down(fds[0], parent, limits)
    wire.send(sock, {"isolation": isolation})
    resident: dict[int, Image.Image] = {}
    while True:
        try:
            request, pixels = wire.receive(sock)
        except (wire.Closed, OSError):
            os._exit(0)
        run = serve(request, wire.pixels_of(request, pixels, shared), resident, limits, seed)
        head, parts = wire.pack_run(run)
        wire.send(sock, head, parts, shared)
        del run, head, parts, pixels


def lock_down(fd: int, parent: int, limits: Limits) -> str:
    """Limits and filter for the rest of this process. Returns "hard" or "soft"."""
    seccomp.die_with_parent()
    if os.getppid() != parent:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    sys.unraisablehook = lambda error: None
    os.closerange(3, fd)
    os.closerange(fd + 1, KEEP_FD_BELOW)
    budget.resident_bytes()  # opens its descriptor while that is possible
    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_FSIZE, 0)
    if in_use := address_space():
        set_limit(resource.RLIMIT_AS, in_use + ((limits.memory_mb + RESIDENT_MB) << 20))
    set_limit(resource.RLIMIT_NPROC, 0)
    sys.setrecursionlimit(1500)
    hard = seccomp.install()
    set_limit(resource.RLIMIT_NOFILE, 0)
    return "hard" if hard else "soft"


def set_limit(kind: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (value, value))


def address_space() -> int:
    """Bytes of address space in use; 0 where the platform does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * budget.PAGE_BYTES
    except OSError:
        return 0


def serve(request: dict[str, Any], pixels: Any, resident: dict[int, Image.Image], limits: Limits, seed: int) -> Run:
    for key in request["drop"]:
        resident.pop(key, None)
    images, offset = [], 0
    for row in request["images"]:
        if row["bytes"]:
            data = memoryview(pixels)[offset : offset + row["bytes"]]
            offset += row["bytes"]
            resident[row["key"]] = wire.picture_of(row["mode"], tuple(row["size"]), data)
        images.append(resident[row["key"]])
    limit_cpu(limits)
    try:
        return inline.execute(request["code"], images, request["index"], limits, seed)
    except MemoryError:
        return Run("memory", f"MemoryError: the code used more than {limits.memory_mb} MB of memory.")


def limit_cpu(limits: Limits) -> None:
    """The kernel counts whole seconds of this process; it kills at the soft limit."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime + limits.cpu_s + 1.999)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
