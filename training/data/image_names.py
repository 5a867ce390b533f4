"""Which names are those of pictures, and which folder of an archive is the data set's own."""

from collections.abc import Collection, Sequence

from PIL import features

LABEL_FILE = "dataset.json"
# Files that may hold many pictures.
ARCHIVES = (
    ".zip", ".npz", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar",
    ".parquet",
)  # fmt: skip

# By the names of dnnlib.pictures.FORMATS.
_SUFFIXES = {
    "PNG": ".png .apng",
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .mpo",
    "WEBP": ".webp",
    "TIFF": ".tif .tiff",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx .jpg2 .jpg2000",
    "AVIF": ".avif .avifs",
}
# Pillow may have been built without these.
_OPTIONAL = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}
# Pictures too, which are not read: to be named rather than to be missing without a word.
_OTHER = """
    .heic .heif .hif .jxl .jxr .wdp .jng .mng .tga .psd .psb .ico .icns .cur .pcx .dcx .exr .hdr .dds .sgi .ras .xbm
    .xpm .qoi .fits .fit .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .orf .raf .rw2 .pef .raw .eps .ps .svg .wmf .emf .dcm
    .nii .mrc .czi .lif .nd2 .svs .ndpi .btf .xcf .kra .ai .bpg .flif .jls
"""
# Copies that systems keep beside pictures: macOS, Synology, QNAP, Windows, and Unix.
_JUNK = frozenset(
    ("__MACOSX", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "$RECYCLE.BIN",
     "System Volume Information", "lost+found", "__pycache__")
)  # fmt: skip


def known_suffixes() -> frozenset[str]:
    """Suffixes of the pictures that are read here: with this Pillow."""
    return frozenset().union(
        *(suffixes.split() for kind, suffixes in _SUFFIXES.items() if _can_read(kind))
    )


def picture_suffixes() -> frozenset[str]:
    """Suffixes of all that is known to be a picture, read or not."""
    return frozenset(_OTHER.split()).union(*(suffixes.split() for suffixes in _SUFFIXES.values()))


def suffix(name: str) -> str:
    """The lower-case suffix of a name with /, as ".png"; empty if it has none."""
    bare = name.rsplit("/", 1)[-1]
    return f".{bare.rsplit('.', 1)[1].lower()}" if "." in bare else ""


def is_junk(bare: str) -> bool:
    """Whether a file or folder of this name is passed over: hidden, or a system's own copies."""
    return bare.startswith(".") or bare in _JUNK


def wrapper(names: Sequence[str], label_files: Collection[str]) -> str:
    """The folder, as "mydata/", that holds all of an archive of a whole folder; "" if there is none.

    It is one if it has dataset.json or, where there is none above it, two or more class folders and no picture.

    Args:
        names: of all pictures.
        label_files: names of all files called dataset.json.
    """
    prefix = ""
    while f"{prefix}{LABEL_FILE}" not in label_files:
        folders = set()
        for name in names:
            head, slash, _ = name[len(prefix) :].partition("/")
            if not slash:
                return ""
            folders.add(head)
        if len(folders) != 1:
            return prefix
        prefix += f"{folders.pop()}/"
    return prefix


def _can_read(kind: str) -> bool:
    return kind not in _OPTIONAL or bool(features.check(_OPTIONAL[kind]))
