# What this build is made of.

from libcpp.string cimport string
from libcpp.vector cimport vector

cimport core


def build_info() -> dict:
    """Return version, llama.cpp tag, build configuration, flags, backends and devices.

    Loads the backends when they are not yet loaded. Memory is in bytes.
    """
    cdef string flags
    cdef vector[string] names
    cdef vector[core.device_info] found
    with nogil:
        flags = core.build_flags()
        names = core.backend_names()
        found = core.devices()
    devices = []
    for device in found:
        devices.append(
            {
                "name": _text(device.name),
                "description": _text(device.description),
                "backend": _text(device.backend),
                "kind": _text(device.kind),
                "memory_free": device.memory_free,
                "memory_total": device.memory_total,
            }
        )
    return {
        "llama_cpp": _text(core.llama_cpp_tag()),
        "configuration": _text(core.build_configuration()),
        "flags": _text(flags),
        "backends": [_text(name) for name in names],
        "devices": devices,
    }
