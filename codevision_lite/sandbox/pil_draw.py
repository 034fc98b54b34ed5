"""Drawing and text on PIL pictures as code sees them: ImageDraw with bounded shapes and texts, fonts that are always the built-in one.

Drawing does not move pixels, so no trace changes here; a single point is a pixel that is written.
"""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw, ImageFont

from codevision_lite.sandbox import checks
from codevision_lite.sandbox.facade import Attr, Meth, Rule, session
from codevision_lite.sandbox.operators import spend_work
from codevision_lite.sandbox.oplog import record
from codevision_lite.sandbox.pil_facade import mutable
from codevision_lite.sandbox.stops import TooLarge

MAX_TEXT = 2000


def draw_on(image: Image.Image, mode: str | None = None) -> ImageDraw.ImageDraw:
    if not isinstance(image, Image.Image):
        raise TypeError(f"ImageDraw.Draw needs a PIL image, got {type(image).__name__}")
    mutable(image)
    draw = ImageDraw.Draw(image, mode)
    return draw


def drawing(name: str, check: Any) -> Meth:
    real = getattr(ImageDraw.ImageDraw, name)

    def run(draw: ImageDraw.ImageDraw, *args: Any, **kwargs: Any) -> Any:
        if name == "point":
            watch_point(draw._image, args[0] if args else kwargs.get("xy"))
        result = real(draw, *args, **kwargs)
        named = {f"arg{i}": a for i, a in enumerate(args)} | {k: v for k, v in kwargs.items() if k != "font"}
        record(f"draw.{name}", **named)
        return result

    return Meth(run, Rule(check=check))


def watch_point(image: Image.Image, xy: Any) -> None:
    """A single point is a pixel that is written."""
    if isinstance(xy, list | tuple) and len(xy) == 1:
        xy = xy[0]
    if isinstance(xy, list | tuple) and len(xy) == 2 and isinstance(xy[0], int):
        session.pixels.written(image, image.width * image.height, (xy[0], xy[1]))


def bitmap(draw: ImageDraw.ImageDraw, xy: Any, image: Image.Image, fill: Any = None) -> None:
    draw.bitmap(xy, image, fill)
    record("draw.bitmap", xy=xy)


def textsize(draw: ImageDraw.ImageDraw, text: str, font: Any = None, *args: Any, **kwargs: Any) -> tuple[int, int]:
    _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    return int(right), int(bottom)


def getsize(font: Any, text: str, *args: Any, **kwargs: Any) -> tuple[int, int]:
    return tuple(int(v) for v in font.getbbox(text)[2:])  # type: ignore[return-value]


def draw_table() -> dict[str, Attr | Meth]:
    table: dict[str, Attr | Meth] = {
        n: drawing(n, small_drawing(n))
        for n in "arc chord ellipse circle line pieslice point polygon regular_polygon rectangle rounded_rectangle".split()
        if hasattr(ImageDraw.ImageDraw, n)
    }  # fmt: skip
    table |= {n: drawing(n, checks.text(MAX_TEXT)) for n in ("text", "multiline_text")}
    real = ImageDraw.ImageDraw
    for n in ("textbbox", "textlength", "multiline_textbbox"):
        table[n] = Meth(getattr(real, n), Rule(check=checks.text(MAX_TEXT)))
    return table | {"textsize": Meth(textsize, Rule(check=checks.text(MAX_TEXT))),
                    "bitmap": Meth(bitmap, Rule(check=small_drawing("bitmap"))),
                    "getfont": Meth(lambda d: d.getfont(), Rule())}  # fmt: skip


def small_drawing(name: str) -> Any:
    def check(args: Any, kwargs: Any) -> None:
        checks.small(100_000)(args, kwargs)
        for limited in ("width", "radius"):
            if checks.numbers_in(kwargs.get(limited, 0)) > 5000:
                raise TooLarge(f"{limited} is too large (at most 5000)")
        points = checks.argument(args, kwargs, 1, "xy", ())
        n = float(len(points)) if isinstance(points, list | tuple) else 0.0
        if name == "regular_polygon":
            n = checks.numbers_in(checks.argument(args, kwargs, 2, "n_sides", 0))
        if n > 8:  # measured: each point costs its line, and in a polygon a look from every row
            width = max((checks.numbers_in(v) for v in (*args[2:], kwargs.get("width", 1))), default=1.0)
            spend_work(n * (14_000 + 300.0 * args[0]._image.height + 5_500 * min(width, 5000)), "this drawing")

    return check


def font(*args: Any, **kwargs: Any) -> Any:
    """truetype(path, size) and load_default(size): the built-in font, whatever the path."""
    path = next((a for a in args if isinstance(a, str)), "")
    if path and not path.lower().endswith((".ttf", ".otf", ".ttc", ".pfb")) and "." in path.rpartition("/")[2]:
        raise OSError("cannot open resource")
    sizes = [a for a in (*args, kwargs.get("size")) if isinstance(a, int | float)]
    size = sizes[0] if sizes else 10
    if not 0 < size <= 1000:
        raise TooLarge("the font size must be between 1 and 1000")
    return ImageFont.load_default(size)


def font_table() -> dict[str, Attr | Meth]:
    check = Rule(check=checks.text(MAX_TEXT))
    return {"getbbox": Meth(lambda f, *a, **k: f.getbbox(*a, **k), check),
            "getlength": Meth(lambda f, *a, **k: f.getlength(*a, **k), check),
            "getsize": Meth(getsize, check), "size": Attr(lambda f: getattr(f, "size", 10)),
            "getmetrics": Meth(lambda f: f.getmetrics() if hasattr(f, "getmetrics") else (10, 2), Rule()),
            "getname": Meth(lambda f: ("Aileron", "Regular"), Rule()), "path": Attr(lambda f: "")}  # fmt: skip
