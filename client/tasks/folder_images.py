"""The pixels of an image file, PNG, JPEG or DICOM, scaled by constants of its format alone."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaward.client.errors import DataError

MOST_PIXELS = 1 << 26
"""Larger images are not opened: a few bytes of a damaged file may claim any size."""
DICOM = (".dcm", ".dicom")


def pixels(where: str, file: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The image as (channels, height, width), its lowest possible value -1 and its highest 1."""
    image = _dicom(where, file) if file.suffix.lower() in DICOM else _picture(where, file)
    channels, height, width = shape
    if channels == 3 or image.mode in ("RGB", "RGBA", "P", "CMYK", "LA", "1"):
        image = image.convert("RGB" if channels == 3 else "L")
    most = 65535.0 if image.mode.startswith("I") else 255.0
    if image.mode.startswith("I"):
        image = Image.fromarray(np.asarray(image).astype(np.float32))
    seen = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    seen = seen[None] if seen.ndim == 2 else np.moveaxis(seen, 2, 0)
    return (seen / most * 2 - 1).astype(np.float32)


def _picture(where: str, file: Path) -> Image.Image:
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.size} pixels, more than {MOST_PIXELS}")
            image.load()
            return image
    except Exception as error:  # Pillow raises whatever its decoders do
        raise DataError(f"{where}: {file} is no image that can be read ({error})") from error


def _dicom(where: str, file: Path) -> Image.Image:
    """Stored values after the file's own rescaling and window, as 16-bit grey values."""
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise DataError(
            f"{where}: {file} is DICOM; pip install 'metaward[dicom]' reads it"
        ) from error
    try:
        data = pydicom.dcmread(BytesIO(file.read_bytes()))  # from a file it would take any length
        shown = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data).astype(np.float64)
        low, high = _window(data)
    except Exception as error:  # pydicom raises whatever its decoders do
        raise DataError(f"{where}: {file} is no DICOM image that can be read ({error})") from error
    if shown.ndim != 2:
        raise DataError(f"{where}: {file} holds {shown.shape}; one grey frame a file is read")
    grey = np.clip((shown - low) / (high - low), 0, 1)
    grey = 1 - grey if data.get("PhotometricInterpretation") == "MONOCHROME1" else grey
    return Image.fromarray(np.round(65535 * grey).astype(np.uint16))


def _window(data: Any) -> tuple[float, float]:
    """The least and the most value that a file's own header allows: none is taken from pixels."""
    signed = int(data.get("PixelRepresentation", 0)) == 1
    bits = int(data.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if not np.isfinite(ends).all():
        raise ValueError(f"RescaleSlope {slope} and RescaleIntercept {intercept} give no values")
    return ends[0], max(ends[1], ends[0] + 1)
