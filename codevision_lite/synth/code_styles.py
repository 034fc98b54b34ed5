"""The same repair written in many ways: PIL, numpy or cv2; one expression, named steps or a function; other variable names.

Every function gives source text that does exactly what its arguments say (synth/verify.py runs it and checks). Boxes are
whole pixels (x1, y1, x2, y2) of the picture that the code works on; sizes are (W, H).
"""

from __future__ import annotations

import random

PixelBox = tuple[int, int, int, int]

# op -> expressions on a PIL picture {p}, and on an array {a}
_PIL = {
    "rotate_90": ("{p}.rotate(90, expand=True)", "{p}.transpose(Image.Transpose.ROTATE_90)", "{p}.transpose(Image.ROTATE_90)"),
    "rotate_180": ("{p}.rotate(180)", "{p}.transpose(Image.Transpose.ROTATE_180)", "{p}.rotate(180, expand=True)"),
    "rotate_270": ("{p}.rotate(270, expand=True)", "{p}.rotate(-90, expand=True)", "{p}.transpose(Image.Transpose.ROTATE_270)"),
    "flip_horizontal": ("ImageOps.mirror({p})", "{p}.transpose(Image.Transpose.FLIP_LEFT_RIGHT)", "{p}.transpose(Image.FLIP_LEFT_RIGHT)"),
    "flip_vertical": ("ImageOps.flip({p})", "{p}.transpose(Image.Transpose.FLIP_TOP_BOTTOM)", "{p}.transpose(Image.FLIP_TOP_BOTTOM)"),
}
_ARRAY = {
    "rotate_90": ("np.rot90({a})", "cv2.rotate({a}, cv2.ROTATE_90_COUNTERCLOCKWISE)", "np.rot90({a}, k=1)"),
    "rotate_180": ("np.rot90({a}, 2)", "{a}[::-1, ::-1]", "cv2.rotate({a}, cv2.ROTATE_180)"),
    "rotate_270": ("np.rot90({a}, k=-1)", "cv2.rotate({a}, cv2.ROTATE_90_CLOCKWISE)", "np.rot90({a}, 3)"),
    "flip_horizontal": ("np.fliplr({a})", "{a}[:, ::-1]", "cv2.flip({a}, 1)"),
    "flip_vertical": ("np.flipud({a})", "{a}[::-1]", "cv2.flip({a}, 0)"),
}
_COMMENTS = {
    "rotate_90": "a quarter turn counter-clockwise", "rotate_180": "half a turn", "rotate_270": "a quarter turn clockwise",
    "flip_horizontal": "mirror left and right", "flip_vertical": "flip top and bottom",
}  # fmt: skip
_PICTURES = ("turned", "fixed", "upright", "restored", "repaired", "im")
_ARRAYS = ("pixels", "arr", "data", "a")
_RESULTS = ("result", "result", "result", "output", "processed_image")


def orientation_code(ops: tuple[str, ...], rng: random.Random) -> str:
    """Code that applies named orientations (geometry.ORIENTATIONS) in order."""
    if rng.random() < 0.35:
        array = rng.choice(_ARRAYS)
        lines = [f"{array} = np.array(image)"]
        lines += [f"{array} = {rng.choice(_ARRAY[op]).format(a=array)}" for op in ops]
        return _with_imports("\n".join([*lines, f"{_result(rng)} = Image.fromarray(np.ascontiguousarray({array}))"]), rng)
    expressions = [rng.choice(_PIL[op]) for op in ops]
    form = rng.random()
    if form < 0.25:
        name = rng.choice(_PICTURES)
        body = [f"    {name} = {e.format(p=name)}" for e in expressions]
        return _with_imports("\n".join([f"def repair({name}):", *body, f"    return {name}", "", f"{_result(rng)} = repair(image)"]), rng)
    if form < 0.6:
        name, before, lines = rng.choice(_PICTURES), "image", []
        for op, expression in zip(ops, expressions, strict=True):
            note = f"  # {_COMMENTS[op]}" if rng.random() < 0.5 else ""
            lines.append(f"{name} = {expression.format(p=before)}{note}")
            before = name
        return _with_imports("\n".join([*lines, f"{_result(rng)} = {name}"]), rng)
    nested = "image"
    for expression in expressions:
        nested = expression.format(p=nested)
    return _with_imports(nested if rng.random() < 0.15 else f"{_result(rng)} = {nested}", rng)


def crop_code(box: PixelBox, rng: random.Random, zoom: int = 1, before: tuple[str, ...] = ()) -> str:
    """Code that applies the orientations `before`, cuts `box` out and enlarges it `zoom` times."""
    x1, y1, x2, y2 = box
    result, source, lines = _result(rng), "image", []
    if before:
        source = rng.choice(_PICTURES)
        nested = "image"
        for op in before:
            nested = rng.choice(_PIL[op]).format(p=nested)
        lines.append(f"{source} = {nested}")
    if rng.random() < 0.3:
        array, part = rng.choice(_ARRAYS), rng.choice(("roi", "part", "region", "crop"))
        lines += [f"{array} = np.array({source})", f"{part} = {array}[{y1}:{y2}, {x1}:{x2}]"]
        if zoom > 1:
            lines.append(f"{part} = cv2.resize({part}, None, fx={zoom}, fy={zoom}, interpolation=cv2.INTER_CUBIC)")
        return _with_imports("\n".join([*lines, f"{result} = Image.fromarray({part})"]), rng)
    corners = f"({x1}, {y1}, {x2}, {y2})"
    if rng.random() < 0.4:
        lines.append(f"left, top, right, bottom = {x1}, {y1}, {x2}, {y2}")
        corners = "(left, top, right, bottom)"
    cut = f"{source}.crop({corners})"
    if zoom > 1:
        part = rng.choice(("region", "part", "detail", "crop"))
        lines += [f"{part} = {cut}", f"{result} = {part}.resize(({part}.width * {zoom}, {part}.height * {zoom}), {_filter(rng)})"]
    else:
        lines.append(f"{result} = {cut}")
    return _with_imports("\n".join(lines), rng)


# Corruption -> ways to weaken it; {x} and {y} depend on its severity. Nothing simple brings a JPEG nearer to the original.
_REMEDIES = {
    "low_light": (
        "result = ImageEnhance.Brightness(image).enhance({x})",
        "arr = np.array(image).astype(np.float32) / 255\nresult = Image.fromarray((255 * arr ** {y}).astype(np.uint8))",
        "result = ImageOps.autocontrast(image)",
        "pixels = np.array(image)\nbright = cv2.convertScaleAbs(pixels, alpha={x}, beta=0)\nresult = Image.fromarray(bright)",
    ),
    "overexposure": (
        "result = ImageOps.autocontrast(image, cutoff=(1, 0))",
        "arr = np.array(image).astype(np.float32) / 255\narr = np.clip((arr - {x}) / (1 - {x}), 0, 1)\n"
        "result = Image.fromarray((255 * (1 - (1 - arr) ** {y})).astype(np.uint8))",
    ),
    "low_contrast": (
        "result = ImageOps.autocontrast(image)",
        "result = ImageOps.autocontrast(image, cutoff=1)",
        "result = ImageEnhance.Contrast(image).enhance({x})",
    ),
    "haze": ("result = ImageOps.autocontrast(image, cutoff=1)", "result = ImageEnhance.Contrast(image).enhance({x})"),
    "noise": (
        "result = image.filter(ImageFilter.MedianFilter(3))",
        "pixels = np.array(image)\nresult = Image.fromarray(cv2.medianBlur(pixels, 3))",
        "result = image.filter(ImageFilter.GaussianBlur(0.8))",
        "arr = np.array(image)\nresult = Image.fromarray(cv2.bilateralFilter(arr, 5, 60, 60))",
    ),
    "blur": ("result = image.filter(ImageFilter.UnsharpMask(radius={y}, percent=120, threshold=0))",),
    "low_resolution": ("result = image.filter(ImageFilter.UnsharpMask(radius={y}, percent=80, threshold=0))",),
}
_STRENGTH = {  # {x} and {y} by severity 1..5
    "low_light": ((1.2, 1.7, 2.5, 3.8, 5.5), (0.8, 0.7, 0.6, 0.5, 0.45)),
    "overexposure": ((0.05, 0.15, 0.25, 0.4, 0.5), (0.8, 0.7, 0.55, 0.45, 0.35)),
    "low_contrast": ((1.2, 1.4, 1.7, 2.1, 2.6), (1, 1, 1, 1, 1)),
    "haze": ((1.2, 1.3, 1.5, 1.7, 2.0), (1, 1, 1, 1, 1)),
    "blur": ((1, 1, 1, 1, 1), (1, 1, 2, 2, 3)),
    "low_resolution": ((1, 1, 1, 1, 1), (1, 1, 2, 2, 3)),
}
REMEDIED = tuple(_REMEDIES)


def remedy_code(corruption: str, severity: int, rng: random.Random) -> str:
    """Code that weakens a corruption of REMEDIED; for "tilt", see `level_code`."""
    x, y = (row[severity - 1] for row in _STRENGTH.get(corruption, ((1,) * 5, (1,) * 5)))
    return _with_imports(rng.choice(_REMEDIES[corruption]).format(x=x, y=y), rng)


def level_code(degrees: float, rng: random.Random) -> str:
    """Code that turns a picture by an angle, counter-clockwise, and keeps all of it."""
    resample = rng.choice(("Image.BICUBIC", "Image.Resampling.BICUBIC", "Image.BILINEAR"))
    fill = rng.choice((", fillcolor='white'", ", fillcolor=(255, 255, 255)", ""))
    return _with_imports(f"{_result(rng)} = image.rotate({degrees:g}, resample={resample}, expand=True{fill})", rng)


def _result(rng: random.Random) -> str:
    return rng.choice(_RESULTS)


def _filter(rng: random.Random) -> str:
    return rng.choice(("Image.LANCZOS", "Image.Resampling.LANCZOS", "Image.BICUBIC"))


_MODULES = (("cv2.", "import cv2"), ("np.", "import numpy as np"))
_PIL_NAMES = ("Image", "ImageOps", "ImageEnhance", "ImageFilter")


def _with_imports(code: str, rng: random.Random) -> str:
    """The sandbox has the usual names already; half of the code imports what it uses all the same, as models do."""
    if rng.random() < 0.5:
        return code
    imports = [line for name, line in _MODULES if name in code]
    names = [name for name in _PIL_NAMES if f"{name}." in code]
    if names:
        imports.append(f"from PIL import {', '.join(names)}")
    return "\n".join([*imports, "", code]) if imports else code
