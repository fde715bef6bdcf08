# What this build is made of.

from libcpp.string cimport string
from libcpp.vector cimport vector

cimport core
cimport llama


def build_info() -> dict:
    """Return llama.cpp's tag, the build's configuration and flags, backends, their libraries, and devices.

    ``libraries`` names the file of each backend: of the CPU backend that is the variant which was chosen.

    Loads the backends when they are not yet loaded. Memory is in bytes.
    """
    cdef string flags
    cdef vector[core.backend_info] loaded
    cdef vector[core.device_info] found
    with nogil:
        flags = core.build_flags()
        loaded = core.backends()
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
        "backends": [_text(backend.name) for backend in loaded],
        "libraries": {_text(backend.name): _text(backend.library) for backend in loaded},
        "devices": devices,
        "supports": {
            "mmap": bool(llama.llama_supports_mmap()),
            "mlock": bool(llama.llama_supports_mlock()),
            "gpu_offload": bool(llama.llama_supports_gpu_offload()),
            "rpc": bool(llama.llama_supports_rpc()),
        },
    }
