"""The PIL modules that code sees: Image, ImageDraw, ImageOps, ImageEnhance, ImageFilter, ImageChops, ImageFont, ImageStat, ImageColor.

Files are virtual: Image.open(anything) gives the current picture, truetype(anything) gives the built-in font.
"""

from __future__ import annotations

from typing import Any

from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageColor,
    ImageDraw,
    ImageEnhance,
    ImageFilter,
    ImageFont,
    ImageOps,
    ImageStat,
    UnidentifiedImageError,
)

from codevision_lite.sandbox import checks, pil_trace
from codevision_lite.sandbox.array_trace import blank, keep, lose, put, trace_of
from codevision_lite.sandbox.classes import WITHABLE
from codevision_lite.sandbox.facade import ATTRIBUTES, PASSIVE, Attr, Box, Fn, Meth, Module, Rule, SafeType
from codevision_lite.sandbox.guards import EXCEPTION_TYPES
from codevision_lite.sandbox.oplog import measure_change, record
from codevision_lite.sandbox.pil_draw import draw_on, draw_table, font, font_table
from codevision_lite.sandbox.pil_facade import evaluate, fromarray, fromarray_trace, frombytes, image_table, new
from codevision_lite.sandbox.stops import Refused, TooLarge
from codevision_lite.sandbox.trace import translation
from codevision_lite.sandbox.virtual import open_picture

PHOTO = Rule(check=checks.same_size, trace=keep)


class Enhancer(Box):
    """ImageEnhance.Contrast(image) and its siblings."""

    __slots__ = ("image", "inner", "kind")

    def __init__(self, kind: str, image: Image.Image) -> None:
        if not isinstance(image, Image.Image):
            raise TypeError(f"ImageEnhance.{kind} needs a PIL image, got {type(image).__name__}")
        self.kind, self.image = kind, image
        self.inner = getattr(ImageEnhance, kind)(image)


def enhance(enhancer: Enhancer, factor: float) -> Image.Image:
    image = enhancer.image
    result = enhancer.inner.enhance(factor)
    trace = trace_of(image)
    if trace is not None:
        put(result, trace)
        record(f"enhance.{enhancer.kind.lower()}", measure_change(image, result), factor=factor)
    return result


def enhancer_type(kind: str) -> SafeType:
    return SafeType(f"ImageEnhance.{kind}", Enhancer, lambda image: Enhancer(kind, image), PHOTO)


def ops_rule(trace: Any, check: Any = checks.same_size) -> Rule:
    return Rule(check=check, trace=trace)


def mirror_trace(method: Any) -> Any:
    return lambda args, kwargs, result: pil_trace.apply_dihedral(args[0], method, result)


def fit_trace(args: Any, kwargs: Any, result: Any) -> None:
    """ImageOps.fit crops to the ratio of the size, around `centering`, then resizes."""
    image = args[0]
    bleed, centering = checks.argument(args, kwargs, 3, "bleed", 0.0), checks.argument(args, kwargs, 4, "centering", (0.5, 0.5))
    cx, cy = (c if 0 <= c <= 1 else 0.5 for c in centering)
    bleed = bleed if 0 <= bleed < 0.5 else 0.0
    bw, bh = bleed * image.width, bleed * image.height
    live_w, live_h = image.width - 2 * bw, image.height - 2 * bh
    live, wanted = live_w / live_h, result.width / result.height
    if live == wanted:
        crop_w, crop_h = live_w, live_h
    elif live >= wanted:
        crop_w, crop_h = wanted * live_h, live_h
    else:
        crop_w, crop_h = live_w, live_w / wanted
    left, top = bw + (live_w - crop_w) * cx, bh + (live_h - crop_h) * cy
    box = (left, top, left + crop_w, top + crop_h)
    pil_trace.move(result, image, pil_trace.scaling(box, *result.size))
    record("crop", box=[round(v, 3) for v in box])
    record("resize", size=list(result.size))


def pad_trace(args: Any, kwargs: Any, result: Any) -> None:
    """ImageOps.pad: contain, then centred on a canvas."""
    image, size = args[0], checks.argument(args, kwargs, 1, "size")
    centering = checks.argument(args, kwargs, 4, "centering", (0.5, 0.5))
    inner = ImageOps.contain(Image.new("1", image.size), size).size
    x = y = 0
    if inner[0] != size[0]:
        x = round((size[0] - inner[0]) * max(0, min(centering[0], 1)))
    elif inner[1] != size[1]:
        y = round((size[1] - inner[1]) * max(0, min(centering[1], 1)))
    kx, ky = image.width / inner[0], image.height / inner[1]
    pil_trace.move(result, image, (kx, 0.0, -x * kx, 0.0, ky, -y * ky, 0.0, 0.0, 1.0))
    record("resize", size=list(inner))
    record("pad", size=list(result.size))


def border_of(args: Any, kwargs: Any) -> tuple[int, int]:
    border = checks.argument(args, kwargs, 1, "border", 0)
    return (border, border) if isinstance(border, int) else (int(border[0]), int(border[1]))


def border_trace(sign: int) -> Any:
    def trace(args: Any, kwargs: Any, result: Any) -> None:
        left, top = border_of(args, kwargs)
        pil_trace.move(result, args[0], translation(sign * left, sign * top))
        if sign > 0:
            record("crop", box=[left, top, left + result.width, top + result.height])
        else:
            record("pad", border=[left, top])

    return trace


def border_check(args: Any, kwargs: Any) -> None:
    border = checks.argument(args, kwargs, 1, "border", 0)
    amount = checks.numbers_in(border)
    if amount > 100_000:
        raise TooLarge("the border is too large")
    if checks.numbers_in(border) and isinstance(args[0], Image.Image):
        checks.check_size(args[0].width + 2 * amount, args[0].height + 2 * amount)


def whole_resize(args: Any, kwargs: Any, result: Any) -> None:
    pil_trace.resize((args[0],), {}, result)


def scale_check(args: Any, kwargs: Any) -> None:
    factor = float(checks.argument(args, kwargs, 1, "factor", 1))
    if factor > 0:
        checks.check_size(args[0].width * factor, args[0].height * factor)


def photo_ops(module: Any, prefix: str, names: str, limit: float = 1e6) -> dict[str, Fn]:
    return {n: Fn(f"{prefix}.{n}", getattr(module, n), Rule(check=checks.small(limit), trace=pil_trace.photometric(n)))
            for n in names.split() if hasattr(module, n)}  # fmt: skip


def make_ops() -> dict[str, Any]:
    size_check = checks.size_argument(1, "size")
    table: dict[str, Any] = photo_ops(ImageOps, "ImageOps", "autocontrast equalize invert grayscale solarize colorize", 1000)
    table["posterize"] = Fn("ImageOps.posterize", _posterize, Rule(check=checks.same_size, trace=pil_trace.photometric("posterize")))
    rows = {
        "mirror": ops_rule(mirror_trace(Image.Transpose.FLIP_LEFT_RIGHT)), "flip": ops_rule(mirror_trace(Image.Transpose.FLIP_TOP_BOTTOM)),
        "fit": ops_rule(fit_trace, size_check), "pad": ops_rule(pad_trace, size_check), "contain": ops_rule(whole_resize, size_check),
        "cover": ops_rule(whole_resize, size_check), "crop": ops_rule(border_trace(1)), "expand": ops_rule(border_trace(-1), border_check),
        "scale": ops_rule(whole_resize, scale_check), "exif_transpose": ops_rule(keep),
    }  # fmt: skip
    return table | {n: Fn(f"ImageOps.{n}", getattr(ImageOps, n), rule) for n, rule in rows.items()}


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    if not 1 <= bits <= 8:
        raise ValueError("posterize needs 1 to 8 bits")
    return ImageOps.posterize(image, int(bits))


def make_filters() -> dict[str, Any]:
    fixed = "BLUR CONTOUR DETAIL EDGE_ENHANCE EDGE_ENHANCE_MORE EMBOSS FIND_EDGES SHARPEN SMOOTH SMOOTH_MORE".split()
    made = "GaussianBlur BoxBlur UnsharpMask Kernel RankFilter MedianFilter MinFilter MaxFilter ModeFilter".split()
    PASSIVE.update(getattr(ImageFilter, n) for n in (*fixed, *made))
    limits = {"Kernel": 1e6}
    table: dict[str, Any] = {n: getattr(ImageFilter, n)() for n in fixed}
    return table | {n: SafeType(f"ImageFilter.{n}", getattr(ImageFilter, n), getattr(ImageFilter, n),
                                Rule(check=checks.small(limits.get(n, 3000), 0))) for n in made}  # fmt: skip


# -- the modules -------------------------------------------------------------------------------------------------------------


def enum_module(name: str, enum: Any) -> Module:
    return Module(f"Image.{name}", {m.name: int(m) for m in enum} | ({"ANTIALIAS": 1} if name == "Resampling" else {}))


def make_image_module(image_type: SafeType) -> Module:
    size_check = checks.size_argument(1, "size")
    first_size = Rule(check=checks.size_argument(0, "size"), trace=blank)
    members: dict[str, Any] = {
        "Image": image_type, "new": Fn("Image.new", new, Rule(check=size_check, trace=blank)),
        "open": Fn("Image.open", open_picture, Rule()), "fromarray": Fn("Image.fromarray", fromarray, Rule(trace=fromarray_trace)),
        "frombytes": Fn("Image.frombytes", frombytes, Rule(check=size_check)),
        "frombuffer": Fn("Image.frombuffer", frombytes, Rule(check=size_check)),
        "merge": Fn("Image.merge", Image.merge, Rule(trace=merge_trace)), "blend": Fn("Image.blend", Image.blend, PHOTO),
        "composite": Fn("Image.composite", Image.composite, PHOTO), "eval": Fn("Image.eval", evaluate, Rule(trace=keep, callbacks=True)),
        "alpha_composite": Fn("Image.alpha_composite", Image.alpha_composite, PHOTO),
        "effect_noise": Fn("Image.effect_noise", Image.effect_noise, first_size),
        "linear_gradient": Fn("Image.linear_gradient", Image.linear_gradient, Rule(trace=blank)),
        "radial_gradient": Fn("Image.radial_gradient", Image.radial_gradient, Rule(trace=blank)),
        "getmodebands": Fn("Image.getmodebands", lambda mode: Image.getmodebands(mode), Rule()),
        "UnidentifiedImageError": UnidentifiedImageError, "ANTIALIAS": 1, "MAX_IMAGE_PIXELS": 178956970,
    }  # fmt: skip
    for name in ("Resampling", "Transpose", "Transform", "Dither", "Palette", "Quantize"):
        enum = getattr(Image, name)
        members[name] = enum_module(name, enum)
        members |= {m.name: int(m) for m in enum}
    return Module("PIL.Image", members, "crop, rotate, transpose, resize, ... are methods of the image")


def merge_trace(args: Any, kwargs: Any, result: Any) -> None:
    keep((checks.argument(args, kwargs, 1, "bands"),), {}, result)


def make_chops() -> dict[str, Any]:
    names = (
        "add subtract multiply screen darker lighter difference overlay soft_light hard_light invert logical_and logical_or "
        "logical_xor add_modulo subtract_modulo blend composite duplicate constant"
    )
    table: dict[str, Any] = photo_ops(ImageChops, "ImageChops", names)
    table["offset"] = Fn("ImageChops.offset", ImageChops.offset, Rule(check=checks.small(1e6), trace=lose))
    return table


class Statistics(Box):
    """ImageStat.Stat(image)."""

    __slots__ = ("stat",)

    def __init__(self, image: Image.Image, mask: Any = None) -> None:
        self.stat = ImageStat.Stat(image, mask)


class Table(Box):
    """A dict that can only be read: nothing that code may write to is shared between runs."""

    __slots__ = ("rows",)

    def __init__(self, rows: dict[Any, Any]) -> None:
        self.rows = rows

    def read_item(self, key: Any) -> Any:
        return self.rows[key]

    def read_iter(self) -> Any:
        return iter(list(self.rows))


def install() -> dict[str, Module]:
    """Fill ATTRIBUTES for PIL's types; return the facade modules by import name."""
    ATTRIBUTES[Image.Image] = image_table()
    ATTRIBUTES[ImageDraw.ImageDraw] = draw_table()
    for font_type in (ImageFont.FreeTypeFont, ImageFont.ImageFont):
        ATTRIBUTES[font_type] = font_table()
    ATTRIBUTES[Enhancer] = {"enhance": Meth(enhance, Rule(check=checks.small(1e4)))}
    ATTRIBUTES[Statistics] = {
        n: Attr(lambda s, n=n: getattr(s.stat, n)) for n in "mean median stddev var sum sum2 count extrema rms".split()
    }
    ATTRIBUTES[Table] = {
        "keys": Meth(lambda t: list(t.rows)), "values": Meth(lambda t: list(t.rows.values())),
        "items": Meth(lambda t: list(t.rows.items())),
        "get": Meth(lambda t, key, default=None: t.rows.get(key, default)),
    }  # fmt: skip
    WITHABLE.add(Image.Image)
    EXCEPTION_TYPES.add(UnidentifiedImageError)
    methods = {n: Fn(n, m.func, m.rule) for n, m in image_table().items() if type(m) is Meth}  # Image.Image.crop(image, box)
    image_type = SafeType("PIL.Image.Image", Image.Image, members=methods)
    draw = SafeType("ImageDraw.Draw", ImageDraw.ImageDraw, draw_on, Rule())
    fonts = {n: Fn(f"ImageFont.{n}", font, Rule()) for n in ("truetype", "load_default", "load", "FreeTypeFont")}
    fonts["load_path"] = Fn("ImageFont.load_path", _no_fonts, Rule())
    image = make_image_module(image_type)
    modules = {
        "PIL.Image": image, "PIL.ImageDraw": Module("PIL.ImageDraw", {"Draw": draw, "ImageDraw": draw}),
        "PIL.ImageOps": Module("PIL.ImageOps", make_ops()), "PIL.ImageFilter": Module("PIL.ImageFilter", make_filters()),
        "PIL.ImageEnhance": Module("PIL.ImageEnhance", {k: enhancer_type(k) for k in ("Brightness", "Contrast", "Color", "Sharpness")}),
        "PIL.ImageChops": Module("PIL.ImageChops", make_chops()), "PIL.ImageFont": Module("PIL.ImageFont", fonts),
        "PIL.ImageColor": Module("PIL.ImageColor", {n: Fn(n, getattr(ImageColor, n), Rule(check=checks.text(100)))
                                                    for n in ("getrgb", "getcolor")}),
        "PIL.ImageStat": Module("PIL.ImageStat", {"Stat": SafeType("ImageStat.Stat", Statistics, Statistics, Rule())}),
        "PIL.ImageFile": Module("PIL.ImageFile", {}),
        "PIL.ExifTags": Module("PIL.ExifTags", {n: Table(getattr(ExifTags, n)) for n in ("TAGS", "GPSTAGS")}),
    }  # fmt: skip
    modules["PIL"] = Module(
        "PIL", {k.partition(".")[2]: m for k, m in modules.items()} | {"UnidentifiedImageError": UnidentifiedImageError}
    )
    return modules


def _no_fonts(*args: Any) -> None:
    raise Refused("font files do not exist in the sandbox; use ImageFont.load_default(size)")
