"""What of an ELF library matters to who packages it."""

from __future__ import annotations

import io
import posixpath
from dataclasses import dataclass

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

__all__ = ["Library", "read_library"]


@dataclass(frozen=True)
class Library:
    """One library: what it is called, needs, exports, and where it looks."""

    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    exports: tuple[str, ...]
    stripped: bool

    def folders(self, inside: str) -> list[str]:
        """Return the folders it looks into, relative to the wheel, for a library in the folder `inside`."""
        return [posixpath.normpath(entry.replace("$ORIGIN", inside)) for entry in self.rpath]


def read_library(data: bytes) -> Library:
    """Read a library's dynamic section, its exported names, and whether it is stripped."""
    elf = ELFFile(io.BytesIO(data))
    soname = ""
    needed: list[str] = []
    rpath: list[str] = []
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags():
                if tag.entry.d_tag == "DT_SONAME":
                    soname = tag.soname
                elif tag.entry.d_tag == "DT_NEEDED":
                    needed.append(tag.needed)
                elif tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    rpath += (tag.rpath if tag.entry.d_tag == "DT_RPATH" else tag.runpath).split(":")
    symbols = elf.get_section_by_name(".dynsym")
    exports = tuple(
        symbol.name
        for symbol in (symbols.iter_symbols() if symbols else ())
        if symbol.entry.st_shndx != "SHN_UNDEF"
        and symbol.entry.st_info.bind in ("STB_GLOBAL", "STB_WEAK", "STB_LOOS")
        and symbol.entry.st_other.visibility == "STV_DEFAULT"
    )
    names = {section.name for section in elf.iter_sections()}
    stripped = ".symtab" not in names and not any(name.startswith((".debug", ".zdebug")) for name in names)
    return Library(soname, tuple(needed), tuple(filter(None, rpath)), exports, stripped)
