"""The cv2 that code sees: functions and constants by allow-list, with sizes checked before and traces after.

Stops: files, video, windows, dnn, FileStorage, algorithm save and load, module-typed attributes. How traces move is in cv2_trace.py.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from codevision_lite.sandbox import cv2_checks as checks
from codevision_lite.sandbox import cv2_objects as objects
from codevision_lite.sandbox import cv2_trace as ct
from codevision_lite.sandbox.array_trace import keep, lose, put, trace_of
from codevision_lite.sandbox.facade import ATTRIBUTES, PASSIVE, Attr, Box, Fn, Meth, Module, Rule, session
from codevision_lite.sandbox.guards import EXCEPTION_TYPES
from codevision_lite.sandbox.stops import RefusedCall

# keep the geometry: pixel by pixel, or filters that are centred on the pixel
KEEPING = (
    "cvtColor blur boxFilter GaussianBlur medianBlur bilateralFilter filter2D sepFilter2D Sobel Scharr Laplacian Canny threshold "
    "adaptiveThreshold "
    "inRange bitwise_and bitwise_or bitwise_xor bitwise_not add subtract multiply divide absdiff addWeighted convertScaleAbs normalize "
    "equalizeHist LUT "
    "erode dilate morphologyEx split merge extractChannel max min pow sqrt exp log magnitude phase fastNlMeansDenoising "
    "fastNlMeansDenoisingColored "
    "inpaint distanceTransform applyColorMap edgePreservingFilter detailEnhance stylization pencilSketch mean transform "
    "connectedComponents connectedComponentsWithStats watershed grabCut floodFill calcBackProject "
    "pyrMeanShiftFiltering sqrBoxFilter scaleAdd compare cartToPolar polarToCart spatialGradient cornerHarris cornerMinEigenVal "
    "preCornerDetect illuminationChange "
    "colorChange textureFlattening decolor thresholdWithMask insertChannel mixChannels insert copyTo blendLinear stackBlur"
).split()
DRAWING = (
    "line rectangle circle ellipse polylines fillPoly fillConvexPoly putText arrowedLine drawContours drawMarker drawKeypoints".split()
)
PLAIN = (  # no picture comes out, or its geometry is not followed
    "findContours contourArea arcLength boundingRect minAreaRect boxPoints approxPolyDP convexHull moments HuMoments "
    "minEnclosingCircle fitEllipse fitLine "
    "isContourConvex pointPolygonTest matchShapes HoughLines HoughLinesP HoughCircles goodFeaturesToTrack cornerSubPix calcHist "
    "compareHist "
    "getRotationMatrix2D getAffineTransform getPerspectiveTransform invertAffineTransform findHomography estimateAffine2D "
    "estimateAffinePartial2D "
    "perspectiveTransform getStructuringElement getGaussianKernel getTextSize minMaxLoc meanStdDev norm countNonZero sumElems mean "
    "matchTemplate "
    "integral reduce sort sortIdx dft idft gemm PSNR phaseCorrelate contourArea convexityDefects rotatedRectangleIntersection "
    "minEnclosingTriangle findNonZero trace determinant invert solve eigen getDerivKernels getGaborKernel seamlessClone "
    "createHanningWindow getOptimalDFTSize "
    "clipLine ellipse2Poly borderInterpolate cubeRoot fastAtan2 useOptimized checkRange hasNonZero accumulate accumulateWeighted "
    "mulSpectrums dct idct BFMatcher_create getFontScaleFromHeight drawMatches getTickCount "
    "getTickFrequency"
).split()
GEOMETRY = {
    "resize": ct.resize, "rotate": ct.rotate, "flip": ct.flip, "transpose": ct.transpose, "warpAffine": ct.warp_affine,
    "warpPerspective": ct.warp_perspective,
    "copyMakeBorder": ct.border, "pyrDown": ct.pyramid, "pyrUp": ct.pyramid, "hconcat": ct.hconcat, "vconcat": ct.vconcat,
    "getRectSubPix": ct.rect_sub_pix,
    "repeat": ct.repeat, "kmeans": ct.kmeans, "remap": lose, "warpPolar": lose, "linearPolar": lose, "logPolar": lose, "undistort": lose,
}  # fmt: skip
OBJECTS = {  # factories: the methods that their objects have here
    "createCLAHE": {"apply": keep, "setClipLimit": None, "setTilesGridSize": None}, "createBackgroundSubtractorMOG2": {"apply": keep},
    "ORB_create": {"detect": None, "compute": None, "detectAndCompute": None},
    "SIFT_create": {"detect": None, "compute": None, "detectAndCompute": None},
    "FastFeatureDetector_create": {"detect": None}, "SimpleBlobDetector_create": {"detect": None}, "MSER_create": {"detectRegions": None},
    "AKAZE_create": {"detect": None, "compute": None, "detectAndCompute": None},
    "BRISK_create": {"detect": None, "compute": None, "detectAndCompute": None},
    "QRCodeDetector": {"detect": None, "detectAndDecode": None, "decode": None}, "BFMatcher": {"match": None, "knnMatch": None},
    "createLineSegmentDetector": {"detect": None}, "AgastFeatureDetector_create": {"detect": None}, "GFTTDetector_create": {"detect": None},
}  # fmt: skip


def pictures(values: Any) -> Any:
    """cv2 takes arrays; models also pass PIL pictures, which OpenCV refuses with an unhelpful text."""
    for v in values:
        if isinstance(v, Image.Image):
            raise TypeError("cv2 needs an array; convert the image first: arr = np.array(image)")


def guarded(name: str, real: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        pictures(args)
        return real(*args, **kwargs)

    return run


class Algorithm(Box):
    """An OpenCV object (CLAHE, ORB, ...) with the methods of its factory's row."""

    __slots__ = ("inner", "kind")

    def __init__(self, kind: str, inner: Any) -> None:
        self.kind, self.inner = kind, inner


def factory(name: str, methods: dict[str, Any]) -> Fn:
    real = getattr(cv2, name)
    kind = type(f"cv2_{name}", (Algorithm,), {"__slots__": ()})

    def calling(method: str, trace: Any) -> Meth:
        check = objects.METHOD_CHECKS.get(method) or objects.detector(name)

        def run(self: Algorithm, *args: Any, **kwargs: Any) -> Any:
            pictures(args)
            check(args, kwargs)
            return getattr(self.inner, method)(*args, **kwargs)

        return Meth(run, Rule(trace=None if trace is None else lambda args, kwargs, result: trace(args[1:], kwargs, result)))

    ATTRIBUTES[kind] = {m: calling(m, t) for m, t in methods.items()}
    return Fn(f"cv2.{name}", lambda *a, **k: kind(name, real(*a, **k)), Rule(check=objects.factory(name)))


def imread(path: Any, flags: int = 1) -> np.ndarray:
    """Any path gives the current picture, in BGR as cv2.imread."""
    from codevision_lite.sandbox.virtual import stored_picture

    picture = stored_picture(path)
    array = np.asarray(picture.convert("L" if flags == 0 else "RGB"))
    result = np.ascontiguousarray(array[..., ::-1]) if array.ndim == 3 else array.copy()
    put(result, trace_of(picture))  # type: ignore[arg-type]
    return result


def imwrite(path: Any, array: Any, *options: Any) -> bool:
    from codevision_lite.sandbox.virtual import add_output

    add_output(array, bgr=True, path=path)
    return True


def imencode(extension: str, array: np.ndarray, *options: Any) -> Any:
    from codevision_lite.sandbox.virtual import FORMATS

    if {"JPG": "JPEG"}.get(extension.strip(".").upper(), extension.strip(".").upper()) not in FORMATS:
        raise RefusedCall(f"the format {extension[:10]} is not available in the sandbox")
    done, data = cv2.imencode(extension, array)
    if (trace := trace_of(array)) is not None:
        session.encoded[hash(data.tobytes())] = trace
    return done, data


def imdecode(data: Any, flags: int = 1) -> np.ndarray:
    from codevision_lite.sandbox.virtual import decode_picture

    picture = decode_picture(bytes(data) if isinstance(data, bytes) else np.asarray(data, np.uint8).tobytes())
    array = np.asarray(picture.convert("L" if flags == 0 else "RGB"))
    result = np.ascontiguousarray(array[..., ::-1]) if array.ndim == 3 else array.copy()
    if (trace := trace_of(picture)) is not None:
        put(result, trace)
    return result


def make_table() -> dict[str, Any]:
    table: dict[str, Any] = {n: getattr(cv2, n) for n in dir(cv2) if n.isupper() or (n[0].isupper() and "_" in n)}
    table = {n: v for n, v in table.items() if isinstance(v, int | float)}
    for names, trace in ((KEEPING, keep), (PLAIN, lose)):
        for n in names:
            if hasattr(cv2, n):
                table[n] = Fn(
                    f"cv2.{n}",
                    guarded(n, getattr(cv2, n)),
                    Rule(check=checks.for_function(n), trace=ct.kept(n) if trace is keep else trace),
                )
    for n in DRAWING:
        table[n] = Fn(f"cv2.{n}", guarded(n, getattr(cv2, n)), Rule(check=checks.drawing, trace=ct.drawn(n)))
    for n, trace in GEOMETRY.items():
        if hasattr(cv2, n):
            table[n] = Fn(f"cv2.{n}", guarded(n, getattr(cv2, n)), Rule(check=checks.for_function(n), trace=trace))
    table |= {n: factory(n, methods) for n, methods in OBJECTS.items() if hasattr(cv2, n)}
    quiet = functions_without_effect()
    virtual = {"imread": imread, "imwrite": imwrite, "imshow": imwrite, "imencode": imencode, "imdecode": imdecode}
    table |= {n: Fn(f"cv2.{n}", f, Rule()) for n, f in virtual.items()}
    return table | quiet | {"error": cv2.error, "__version__": cv2.__version__}


def functions_without_effect() -> dict[str, Any]:
    return {n: Fn(f"cv2.{n}", lambda *a, **k: -1, Rule()) for n in ("waitKey", "destroyAllWindows", "destroyWindow", "namedWindow")}


def install() -> dict[str, Module]:
    EXCEPTION_TYPES.add(cv2.error)
    ATTRIBUTES[cv2.KeyPoint] = {n: Attr(lambda k, n=n: getattr(k, n)) for n in ("pt", "size", "angle", "response", "octave")}
    ATTRIBUTES[cv2.DMatch] = {n: Attr(lambda k, n=n: getattr(k, n)) for n in ("distance", "queryIdx", "trainIdx", "imgIdx")}
    PASSIVE.update({cv2.KeyPoint, cv2.DMatch})
    table = make_table()
    return {"cv2": Module("cv2", table, "files, video, windows and networks are not; use image functions")}
