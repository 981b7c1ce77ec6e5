"""Writes golden.json: what Pillow and torchvision make of the files in files/ and of some of the demo's images. Or makes it
again and compares.

    pip install --requirement requirements.txt
    python make.py            # writes golden.json
    python make.py --files    # the special files too
    python make.py --check    # compares, exit code 1 on a difference

torchvision's preprocessing of a Pillow image is Pillow's resampling and a few operations on 32-bit floats, which are
written out here with numpy. golden.json was recorded by torchvision itself; the bytes are the same. With

    pip install torch==2.13.0 torchvision==0.28.0 pillow==13.0.0
    python make.py --torchvision --check

torchvision does it again, which takes gigabytes to install.

For each file: size and SHA-256 of the RGB bytes after `.convert("RGB")`; per preprocessing the SHA-256 of the tensor's
little-endian float32 bytes and four of its values, which tell how far off a failing result is.
"""

import hashlib
import json
import pathlib
import struct
import sys
import warnings
import zlib

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent
REPOSITORY = HERE.parents[3]
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DEMO = [
    "demo/caltech-101/101_ObjectCategories/Faces",
    "demo/caltech-101/101_ObjectCategories/airplanes",
    "demo/caltech-101/101_ObjectCategories/butterfly",
    "demo/caltech-101/101_ObjectCategories/grand_piano",
    "demo/icons/images/key",
    "demo/icons/images/lock",
]
# (name, crop as row, column, height, width in parts of 64 of the image, mirrored)
CROPS = [((0, 0, 64, 64), False), ((5, 9, 40, 47), True), ((20, 3, 44, 33), False)]


def photo(height, width, channels, seed):
    """Smooth colours with some noise: what JPEG is made for, without being flat."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + 2 * c) + seed) + np.cos(y / (5 + c)) + x * y / (height * width) for c in range(channels)]
    image = np.stack(waves, -1) * 55 + 100 + random.normal(0, 8, (height, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8).squeeze()


def png(path, width, height, depth, colour, rows, chunks=b"", interlace=0):
    """A PNG of a kind that Pillow can't write itself."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def make_files(folder):
    folder.mkdir(exist_ok=True)
    rgb = Image.fromarray(photo(37, 53, 3, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees, which neither side may apply
    rgb.save(folder / "exif-rotated.jpg", quality=90, exif=exif)
    rgb.save(folder / "progressive-420.jpg", quality=75, progressive=True, subsampling=2)
    rgb.save(folder / "baseline-422.jpg", quality=85, subsampling=1)
    rgb.save(folder / "baseline-444.jpg", quality=95, subsampling=0)
    rgb.save(folder / "restart-markers.jpg", quality=80, restart_marker_blocks=2)
    rgb.save(folder / "rgb-without-transform.jpg", quality=90, keep_rgb=True)
    Image.fromarray(photo(41, 29, 1, 2)).save(folder / "grey.jpg", quality=88)
    Image.fromarray(photo(33, 35, 4, 3), "CMYK").save(folder / "cmyk.jpg", quality=92)
    (folder / "png-called.jpg").write_bytes(b"")
    rgb.save(folder / "png-called.jpg", format="PNG")

    grey = photo(24, 31, 1, 4)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey > 128).save(folder / "one-bit.png")
    Image.fromarray(photo(23, 30, 4, 5), "RGBA").save(folder / "alpha.png")
    Image.fromarray(np.dstack([grey, 255 - grey]), "LA").save(folder / "grey-alpha.png")
    palette = rgb.quantize(13)
    palette.save(folder / "palette.png", bits=4)
    palette.save(folder / "palette-transparent.png", transparency=3)
    palette.save(folder / "palette-alpha.png", transparency=bytes(range(0, 130, 10)))
    high = grey.astype(np.uint16) * 3
    Image.fromarray(high).save(folder / "grey-16.png")
    wide = (photo(20, 17, 3, 6).astype(np.uint16) << 8) + 200
    png(folder / "rgb-16.png", 17, 20, 16, 2, [row.astype(">u2").tobytes() for row in wide])
    wide = (photo(15, 19, 4, 7).astype(np.uint16) << 8) + 77
    png(folder / "rgba-16.png", 19, 15, 16, 6, [row.astype(">u2").tobytes() for row in wide])
    rows = [bytes((x * 37 + y * 11) & 0xFF for x in range(5)) for y in range(9)]
    png(folder / "grey-2.png", 19, 9, 2, 0, rows)
    # Adam7, 8x8: the seven passes have 1, 1, 2, 4, 8, 16 and 32 pixels.
    passes = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]
    rows = [bytes((7 * n + 13 * x + 31 * y) & 0xFF for x in range(3 * width)) for n, (height, width) in enumerate(passes) for y in range(height)]
    png(folder / "interlaced.png", 8, 8, 8, 2, rows, interlace=1)


def normalised(image):
    channels = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return (channels - np.float32(MEAN)[:, None, None]) / np.float32(DEVIATION)[:, None, None]


def test_time(image, size):
    """Resize(size), CenterCrop(size), ToTensor, Normalize."""
    short, long = sorted(image.size)
    resized = [size if edge == short else int(size * long / short) for edge in image.size]
    left, top = (round((edge - size) / 2) for edge in resized)
    return normalised(image.resize(resized, Image.Resampling.BICUBIC).crop((left, top, left + size, top + size)))


def train_time(image, x, y, width, height, mirrored, size):
    """resized_crop, hflip, ToTensor, Normalize."""
    cropped = image.crop((x, y, x + width, y + height)).resize((size, size), Image.Resampling.BICUBIC)
    return normalised(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cropped)


def by_torchvision():
    """The same two, by torchvision."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor, functional

    bicubic, finish = InterpolationMode.BICUBIC, Compose([ToTensor(), Normalize(MEAN, DEVIATION)])

    def test_time(image, size):
        return Compose([Resize(size, bicubic, antialias=True), CenterCrop(size), finish])(image).numpy()

    def train_time(image, x, y, width, height, mirrored, size):
        cropped = functional.resized_crop(image, y, x, height, width, [size, size], bicubic, antialias=True)
        return finish(functional.hflip(cropped) if mirrored else cropped).numpy()

    return test_time, train_time


def facts(tensor):
    data = np.ascontiguousarray(tensor, dtype="<f4")
    places = np.linspace(0, data.size - 1, 4).astype(int)
    return {"sha256": hashlib.sha256(data.tobytes()).hexdigest(), "values": [float(data.flat[place]) for place in places]}


def describe(path, test_time, train_time):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    entry = {
        "file": path.relative_to(REPOSITORY).as_posix(),
        "width": width,
        "height": height,
        "rgb": hashlib.sha256(np.asarray(image).tobytes()).hexdigest(),
        "test": [],
        "train": [],
    }
    for size in (64, 224):
        entry["test"].append({"size": size, **facts(test_time(image, size))})
    for parts, mirrored in CROPS:
        top, rows = (int(part * height / 64) for part in (parts[0], parts[2]))
        left, columns = (int(part * width / 64) for part in (parts[1], parts[3]))
        crop = {"x": left, "y": top, "width": columns, "height": rows, "mirrored": mirrored, "size": 64}
        entry["train"].append({**crop, **facts(train_time(image, **crop))})
    return entry


def main():
    warnings.simplefilter("ignore")  # Pillow advises against dropping alpha, which is what is wanted here
    if "--files" in sys.argv:
        make_files(HERE / "files")
    paths = sorted((HERE / "files").iterdir())
    for folder in DEMO:
        paths += sorted((REPOSITORY / folder).iterdir())[:4]
    versions, ways = {"pillow": PIL.__version__, "numpy": np.__version__}, (test_time, train_time)
    if "--torchvision" in sys.argv:
        import torch
        import torchvision

        versions = {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
        ways = by_torchvision()
    images, golden = [describe(path, *ways) for path in paths], HERE / "golden.json"
    if "--check" in sys.argv:
        recorded = json.loads(golden.read_text())["images"]
        different = [ours["file"] for ours, theirs in zip(images, recorded, strict=True) if ours != theirs]
        print(f"golden.json: {len(images)} images, {f'DIFFERENT: {different}' if different else 'the same'}")
        sys.exit(bool(different))
    lines = ",\n".join(json.dumps(image) for image in images)
    golden.write_text(f'{{"versions": {json.dumps(versions)}, "images": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
