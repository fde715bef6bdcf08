# JSON taken apart, so that what carries a request need not decode it.


def json_members(bytes text not None, size_t n_most=64) -> dict:
    """Return the members of a JSON object by name, each as the bytes that stand in ``text``.

    The values are whole by their brackets and quotes, and no more than that: whoever decodes one validates it. The
    GIL is released meanwhile. Raises InvalidRequestError when it is no object, or has more than ``n_most`` members.
    """
    cdef const char * data = text
    cdef size_t size = len(text)
    cdef vector[pair[string, string]] found
    with nogil:
        found = c_json_members(string_view(data, size), n_most)
    members = {}
    for item in found:
        members[_member_name(item.first)] = <bytes> item.second
    return members


def split_predictions(bytes body not None) -> list:
    """Return (format, body, problem) of each instance of a Vertex AI prediction request.

    ``format`` names the endpoint that ``body`` is for; ``problem`` says why an instance is none, and is empty for
    others. The GIL is released meanwhile. Raises InvalidRequestError when there is no list of at most 128.
    """
    cdef const char * data = body
    cdef size_t size = len(body)
    cdef vector[c_prediction_instance] found
    cdef size_t i
    with nogil:
        found = c_split_predictions(string_view(data, size))
    return [
        (_text(found[i].format), <bytes> found[i].body, _text(found[i].problem)) for i in range(found.size())
    ]


cdef str _member_name(bytes raw):
    try:
        return raw.decode() if b"\\" not in raw else _json.loads(b'"' + raw + b'"')
    except ValueError:
        raise _errors.InvalidRequestError("the message has a member whose name is not JSON") from None
