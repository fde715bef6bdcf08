#include "json_text.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace pyllama {

namespace {

// Length of the well-formed character at the head of `text` (not empty), or 0. `consumed` gets the bytes that a
// repair replaces together when it is malformed: the longest prefix that could have begun a character.
size_t character_length(std::string_view text, size_t & consumed) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char first = byte(0);
    consumed = 1;
    if (first < 0x80) {
        return 1;
    }
    size_t length = 0;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        low = first == 0xE0 ? 0xA0 : 0x80;
        high = first == 0xED ? 0x9F : 0xBF;
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        low = first == 0xF0 ? 0x90 : 0x80;
        high = first == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    for (size_t i = 1; i < length; ++i) {
        if (i >= text.size() || byte(i) < low || byte(i) > high) {
            return 0;
        }
        ++consumed;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

template <typename T>
void append_finite(std::string & out, T value) {
    char buffer[64];
    const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value);
    out.append(buffer, end.ptr);
}

template <typename T>
void append_floating(std::string & out, T value) {
    if (std::isnan(value)) {
        out += "null";
    } else if (std::isinf(value)) {
        append_finite(out, value > 0 ? std::numeric_limits<T>::max() : std::numeric_limits<T>::lowest());
    } else {
        append_finite(out, value);
    }
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
    size_t at = 0;
    while (at < text.size()) {
        size_t consumed = 0;
        const size_t length = character_length(text.substr(at), consumed);
        if (length == 0) {
            return at;
        }
        at += length;
    }
    return at;
}

void append_escaped(std::string & out, std::string_view text) {
    constexpr char digits[] = "0123456789abcdef";
    size_t clean = 0;  // start of the bytes that go out as they are
    size_t at = 0;
    const auto flush = [&] { out.append(text.data() + clean, at - clean); };
    while (at < text.size()) {
        const auto byte = static_cast<unsigned char>(text[at]);
        if (byte >= 0x80) {
            size_t consumed = 0;
            const size_t length = character_length(text.substr(at), consumed);
            if (length > 0) {
                at += length;
                continue;
            }
            flush();
            out += "\xEF\xBF\xBD";
            at += consumed;
        } else if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7F) {
            ++at;
            continue;
        } else {
            flush();
            switch (byte) {
                case '"': out += "\\\""; break;
                case '\\': out += "\\\\"; break;
                case '\n': out += "\\n"; break;
                case '\r': out += "\\r"; break;
                case '\t': out += "\\t"; break;
                case '\b': out += "\\b"; break;
                case '\f': out += "\\f"; break;
                default:
                    out += "\\u00";
                    out += digits[byte >> 4];
                    out += digits[byte & 15];
            }
            ++at;
        }
        clean = at;
    }
    flush();
}

void append_quoted(std::string & out, std::string_view text) {
    out += '"';
    append_escaped(out, text);
    out += '"';
}

std::string json_quoted(std::string_view text) {
    std::string out;
    append_quoted(out, text);
    return out;
}

void append_number(std::string & out, double value) {
    append_floating(out, value);
}
void append_number(std::string & out, float value) {
    append_floating(out, value);
}
void append_integer(std::string & out, int64_t value) {
    append_finite(out, value);
}

void append_bytes(std::string & out, std::string_view text) {
    out += '[';
    for (size_t i = 0; i < text.size(); ++i) {
        if (i > 0) {
            out += ',';
        }
        append_integer(out, static_cast<unsigned char>(text[i]));
    }
    out += ']';
}

int error_status(error_kind kind) {
    switch (kind) {
        case error_kind::invalid_request:
        case error_kind::media_url:
        case error_kind::context_exceeded: return 400;
        case error_kind::not_found: return 404;
        case error_kind::unsupported: return 501;
        case error_kind::busy: return 429;
        case error_kind::unavailable:
        case error_kind::closed: return 503;
        case error_kind::model_load:
        case error_kind::engine: break;
    }
    return 500;
}

std::string_view error_type(error_kind kind) {
    switch (kind) {
        case error_kind::invalid_request:
        case error_kind::media_url: return "invalid_request_error";
        case error_kind::context_exceeded: return "exceed_context_size_error";
        case error_kind::not_found: return "not_found_error";
        case error_kind::unsupported: return "not_supported_error";
        case error_kind::busy:
        case error_kind::unavailable:
        case error_kind::closed: return "unavailable_error";
        case error_kind::model_load:
        case error_kind::engine: break;
    }
    return "server_error";
}

void append_error(std::string & out, const error & reason) {
    out += "{\"code\":";
    append_integer(out, error_status(reason.kind));
    out += ",\"message\":";
    append_quoted(out, reason.what());
    out += ",\"type\":";
    append_quoted(out, error_type(reason.kind));
    if (!reason.param.empty()) {
        out += ",\"param\":";
        append_quoted(out, reason.param);
    }
    if (reason.kind == error_kind::context_exceeded) {
        out += ",\"n_prompt_tokens\":";
        append_integer(out, reason.n_prompt_tokens);
        out += ",\"n_ctx\":";
        append_integer(out, reason.n_ctx);
    }
    out += '}';
}

}  // namespace pyllama
