"""Builds what is written in C where a compiler is, and the package without it where none is."""

import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class PlainLibrary(build_ext):
    """A library that ctypes loads: no module, so no function that starts one."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None but those in the source."""
        return ext.export_symbols


def library(name: str, *files: str) -> Extension:
    """Files in C and their headers; without it the package does the same more slowly.

    It knows of which files it was made, see ``vqkit.compiled.is_made_of``.
    """
    folder = Path("src", *name.split(".")[:-1])
    paths = [str(folder / file) for file in files]
    known = zlib.crc32(b"".join(Path(path).read_bytes() for path in paths))
    return Extension(
        name,
        sources=[path for path in paths if path.endswith(".c")],
        depends=[path for path in paths if path.endswith(".h")],
        define_macros=[("VQKIT_SOURCES", f"{known}u")],
        extra_compile_args=["-O3"],
        libraries=["m"],
        optional=True,
        py_limited_api=True,
    )


setup(
    cmdclass={"build_ext": PlainLibrary},
    ext_modules=[
        library("vqkit.quantizers.search._nearest", "nearest.c", "nearest_kernel.h"),
        library("vqkit.nn._step", "attend.c", "product.c", "product_kernel.h", "eight.h"),
    ],
)
