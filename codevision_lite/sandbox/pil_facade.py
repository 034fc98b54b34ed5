"""PIL pictures as code sees them: the attributes of Image.Image, each callable with its check and its trace.

Files are virtual: save() and show() add an output. The modules of PIL are in pil_modules.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox import checks, pil_trace
from codevision_lite.sandbox.array_trace import keep, lose, put, spoil, trace_of
from codevision_lite.sandbox.facade import Attr, Box, Meth, Rule, session
from codevision_lite.sandbox.guards import call
from codevision_lite.sandbox.numpy_facade import fromarray_input
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.stops import RefusedCall, TooLarge
from codevision_lite.sandbox.trace import UNKNOWN
from codevision_lite.sandbox.virtual import save_picture, show_picture

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "RGBX", "RGBa", "La", "I;16", "PA")
MAX_LISTED = 4_000_000  # pixels that getdata() may turn into Python objects


def mutable(image: Image.Image) -> None:
    """Give a picture that shares its pixels with a source its own copy before it is written to."""
    if image.readonly:
        image._copy()


class Pixels(Box):
    """What Image.load() gives: pixels[x, y], read and written."""

    __slots__ = ("image", "pixels")

    def __init__(self, image: Image.Image) -> None:
        mutable(image)
        self.image, self.pixels = image, image.load()

    def read_item(self, key: Any) -> Any:
        x, y = key
        session.pixels.read(self.image, (x, y))
        return self.pixels[x, y]

    def write_item(self, key: Any, value: Any) -> None:
        x, y = key
        session.pixels.written(self.image, self.image.width * self.image.height, (x, y))
        self.pixels[x, y] = tuple(value) if isinstance(value, list) else value


def getpixel(image: Image.Image, xy: Any) -> Any:
    session.pixels.read(image, (xy[0], xy[1]))
    return image.getpixel((xy[0], xy[1]))


def putpixel(image: Image.Image, xy: Any, value: Any) -> None:
    session.pixels.written(image, image.width * image.height, (xy[0], xy[1]))
    image.putpixel((xy[0], xy[1]), value)


def getdata(image: Image.Image, band: int | None = None) -> list[Any]:
    if image.width * image.height > MAX_LISTED:
        raise TooLarge(f"getdata() of {image.width}x{image.height} pixels is too slow; use np.array(image)")
    session.budget.spend_bytes(100 * image.width * image.height)
    spend_work(2000.0 * image.width * image.height, "this list")
    return list(image.get_flattened_data(band) if hasattr(image, "get_flattened_data") else image.getdata(band))


def getcolors(image: Image.Image, maxcolors: int = 256) -> Any:
    if not 0 < int(maxcolors) <= 2_000_000:
        raise ValueError("getcolors needs 1 to 2,000,000 colours")
    spend_work(500.0 * image.width * image.height, "this count")
    return image.getcolors(int(maxcolors))


def putdata(image: Image.Image, data: Any, *args: Any) -> None:
    spoil(image)
    image.putdata(data if isinstance(data, list | tuple | np.ndarray) else list(data), *args)


def point(image: Image.Image, lut: Any, mode: str | None = None) -> Image.Image:
    if callable(lut):
        if image.mode in ("I", "I;16", "F"):
            raise ValueError("point() with a function needs a picture of 8 bits; convert to L or RGB first")
        lut = [call(lut, i) for i in range(256)] * len(image.getbands())
        lut = [round(v) if isinstance(v, float | np.floating) else int(v) for v in lut]
    return image.point(lut, mode)


def convert(image: Image.Image, mode: Any = None, *args: Any, **kwargs: Any) -> Image.Image:
    if mode is not None and mode not in MODES:
        raise ValueError(f"unknown image mode {str(mode)[:20]!r}; use one of {', '.join(MODES[:9])}")
    return image.convert(mode, *args, **kwargs)


def tobytes(image: Image.Image, *encoder: Any) -> bytes:
    if encoder and encoder[0] != "raw":
        raise RefusedCall("tobytes() only gives raw pixels in the sandbox; save into io.BytesIO to encode")
    session.budget.spend_bytes(image.width * image.height * 4)
    data = image.tobytes()
    if (trace := trace_of(image)) is not None:
        session.encoded[hash((image.mode, image.size, data))] = trace
    return data


def seek(image: Image.Image, frame: int) -> None:
    if frame != 0:
        raise EOFError("no more images in the file")


def alpha_in_place(image: Image.Image, im: Image.Image, dest: Any = (0, 0), source: Any = (0, 0)) -> None:
    image.alpha_composite(im, dest, source)


def _paste(image: Image.Image, im: Any, box: Any = None, mask: Any = None) -> None:
    if isinstance(box, list | tuple):
        box = tuple(int(v) for v in box)
    image.paste(im, box, mask)


def simple(name: str, rule: Rule) -> Meth:
    return Meth(getattr(Image.Image, name), rule)


def mover_rule(check: Any, trace: Any) -> Rule:
    return Rule(check=check, trace=trace)


PHOTO = Rule(check=checks.same_size, trace=keep)
READ = Rule(check=checks.same_size)


def image_table() -> dict[str, Attr | Meth]:
    return {
        **{n: Attr(lambda im, n=n: getattr(im, n)) for n in ("size", "width", "height", "mode")},
        "format": Attr(lambda im: im.format or "PNG"), "info": Attr(lambda im: {}), "filename": Attr(lambda im: "image.png"),
        "n_frames": Attr(lambda im: 1), "is_animated": Attr(lambda im: False),
        "has_transparency_data": Attr(lambda im: im.has_transparency_data),
        "crop": simple("crop", mover_rule(checks.crop_box, pil_trace.crop)),
        "rotate": simple("rotate", mover_rule(checks.rotated_size, pil_trace.rotate)),
        "transpose": simple("transpose", mover_rule(checks.same_size, pil_trace.transpose)),
        "resize": simple("resize", mover_rule(checks.size_argument(1, "size"), pil_trace.resize)),
        "reduce": simple("reduce", mover_rule(checks.small(10_000), pil_trace.reduce)),
        "transform": simple("transform", mover_rule(checks.warped, pil_trace.transform)),
        "thumbnail": Meth(pil_trace.thumbnail, Rule()),
        "paste": Meth(_paste, Rule(check=checks.small(1e6, 2), trace=pil_trace.paste)),
        "alpha_composite": Meth(alpha_in_place, Rule(check=checks.small(1e6, 2), trace=pil_trace.paste)),
        "copy": simple("copy", PHOTO), "split": simple("split", PHOTO), "getchannel": simple("getchannel", PHOTO),
        "convert": Meth(convert, Rule(check=checks.same_size, trace=pil_trace.photometric("convert"))),
        "filter": simple("filter", Rule(check=checks.filter_cost, trace=pil_trace.filtered)),
        "point": Meth(point, Rule(check=checks.same_size, trace=pil_trace.photometric("point"), callbacks=True)),
        "quantize": simple("quantize", Rule(check=checks.quantized, trace=pil_trace.photometric("quantize"))),
        "putalpha": simple("putalpha", PHOTO), "effect_spread": simple("effect_spread", Rule(check=checks.spread, trace=lose)),
        "putdata": Meth(putdata, Rule()), "putpixel": Meth(putpixel, Rule()), "getpixel": Meth(getpixel, Rule()),
        "getdata": Meth(getdata, Rule()), "get_flattened_data": Meth(getdata, Rule()), "load": Meth(Pixels, Rule()),
        "tobytes": Meth(tobytes, Rule()),
        **{n: simple(n, READ) for n in ("getbbox", "getextrema", "histogram", "entropy", "getbands", "getprojection")},
        "getcolors": Meth(getcolors, Rule()), "getpalette": simple("getpalette", Rule()),
        "close": Meth(lambda im: None), "verify": Meth(lambda im: None), "tell": Meth(lambda im: 0),
        "getexif": Meth(lambda im: {}), "seek": Meth(seek, Rule()),
        "show": Meth(show_picture, Rule()), "save": Meth(save_picture, Rule()),
    }  # fmt: skip


# -- module functions --------------------------------------------------------------------------------------------------------


def new(mode: Any, size: Any, color: Any = 0) -> Image.Image:
    if mode not in MODES:
        raise ValueError(f"unknown image mode {str(mode)[:20]!r}; use RGB, RGBA or L")
    return Image.new(mode, tuple(int(v) for v in size), color)


def fromarray(array: Any, mode: str | None = None) -> Image.Image:
    array = fromarray_input(array)
    return Image.fromarray(array) if mode is None or mode in ("RGB", "L", "RGBA", "F", "I") else Image.fromarray(array, mode)


def fromarray_trace(args: Any, kwargs: Any, result: Any) -> None:
    trace = trace_of(args[0]) if args else None
    if trace is not None:
        put(result, trace)


def frombytes(mode: str, size: Any, data: Any, *args: Any) -> Image.Image:
    if args and args[0] != "raw":
        raise RefusedCall("frombytes() only reads raw pixels in the sandbox; use Image.open(io.BytesIO(data))")
    size, data = tuple(int(v) for v in size), bytes(data)
    made = Image.frombytes(mode, size, data)
    put(made, session.encoded.get(hash((mode, size, data)), UNKNOWN))
    return made


def evaluate(image: Image.Image, *args: Any) -> Image.Image:
    return point(image, args[0])
