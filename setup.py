"""Builds the compiled search where a compiler is, and the package without it where none is."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class PlainLibrary(build_ext):
    """A library that ctypes loads: no module, so no function that starts one."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None but those in the source."""
        return ext.export_symbols


setup(
    cmdclass={"build_ext": PlainLibrary},
    ext_modules=[
        Extension(
            "vqkit.quantizers.search._nearest",
            sources=["src/vqkit/quantizers/search/nearest.c"],
            depends=["src/vqkit/quantizers/search/nearest_kernel.h"],
            extra_compile_args=["-O3"],
            libraries=["m"],
            optional=True,
            py_limited_api=True,
        )
    ],
)
