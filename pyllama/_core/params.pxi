# The server's flags.

import json as _json
import os as _os


class CliExit(Exception):
    """A flag such as --help or --version did its work: what is left is to exit with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


cdef class ServerParams:
    """llama-server's flags and environment variables, and pyllama's own.

    ``argv`` is without the program's name. Raises InvalidRequestError with one line for a flag that is unknown
    or has a bad value, and CliExit for flags that print something and end.
    """

    cdef c_server_params params

    def __init__(self, argv=()) -> None:
        cdef vector[string] args
        cdef c_server_params parsed
        for arg in argv:
            args.push_back(str(arg).encode("utf-8", "surrogateescape"))
        with nogil:
            parsed = c_parse_server_params(args)
        if parsed.exit_code >= 0:
            raise CliExit(parsed.exit_code)
        self.params = parsed

    def set_model_path(self, path) -> None:
        """Use the model at ``path``, for when no --model was given."""
        c_set_model_path(self.params, _os.fsencode(path))

    def set_projector_path(self, path) -> None:
        """Use the multimodal projector at ``path``, as --mmproj does."""
        c_set_projector_path(self.params, _os.fsencode(path))

    def as_dict(self) -> dict:
        """Return the values that the server needs; sizes in bytes, times in seconds."""
        return _json.loads(c_params_json(self.params))


def hub_places() -> dict:
    """Return the hub's ``endpoint`` and the folders ``hub_cache`` and ``file_cache`` of llama.cpp's tools."""
    return _json.loads(c_hub_json())


def known_flags() -> list:
    """Return every flag of ServerParams in the order of --help.

    Each is a dict: ``names`` and ``negated`` (the names that switch it off), ``values`` (what stands for each value),
    ``environment``, ``help`` and ``group``; texts that do not apply are empty.
    """
    return _json.loads(c_flags_json())
