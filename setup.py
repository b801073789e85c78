"""Builds what is written in C where a compiler is, and the package without it where none is."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class PlainLibrary(build_ext):
    """A library that ctypes loads: no module, so no function that starts one."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None but those in the source."""
        return ext.export_symbols


def library(name: str, source: str, depends: list[str]) -> Extension:
    """A file in C; without it the package does the same more slowly."""
    return Extension(
        name,
        sources=[source],
        depends=depends,
        extra_compile_args=["-O3"],
        libraries=["m"],
        optional=True,
        py_limited_api=True,
    )


setup(
    cmdclass={"build_ext": PlainLibrary},
    ext_modules=[
        library(
            "vqkit.quantizers.search._nearest",
            "src/vqkit/quantizers/search/nearest.c",
            ["src/vqkit/quantizers/search/nearest_kernel.h"],
        ),
        library("vqkit.nn._attend", "src/vqkit/nn/attend.c", []),
    ],
)
