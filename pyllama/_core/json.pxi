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


cdef str _member_name(bytes raw):
    try:
        return raw.decode() if b"\\" not in raw else _json.loads(b'"' + raw + b'"')
    except ValueError:
        raise _errors.InvalidRequestError("the message has a member whose name is not JSON") from None
