#include "media_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "errors.h"
#include "projector.h"
#include "request_json.h"

namespace pyllama {

namespace {

constexpr std::string_view data_scheme = "data:";
constexpr std::string_view file_scheme = "file://";

bool starts_with(std::string_view text, std::string_view with) {
    return text.substr(0, with.size()) == with;
}

std::array<int8_t, 256> make_digits() {
    std::array<int8_t, 256> digits = {};
    digits.fill(-1);
    constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < alphabet.size(); ++i) {
        digits[static_cast<unsigned char>(alphabet[i])] = static_cast<int8_t>(i);
    }
    return digits;
}

std::string require_base64(std::string_view text, const std::string & field) {
    auto bytes = decode_base64(text);
    if (!bytes || bytes->empty()) {
        throw bad_request("'" + field + "' is no data: URI and no base64 text", field);
    }
    return std::move(*bytes);
}

// data:image/png;base64,...
std::string read_data_uri(std::string_view uri, const std::string & field) {
    const size_t comma = uri.find(',');
    const std::string_view head = uri.substr(0, std::min(comma, uri.size()));
    constexpr std::string_view encoding = ";base64";
    const bool is_base64 = head.size() > encoding.size() && head.substr(head.size() - encoding.size()) == encoding;
    if (comma == std::string_view::npos || !starts_with(head, "data:image/") || !is_base64) {
        throw bad_request("'" + field + "' must be a data: URI of an image in base64 (data:image/png;base64,...)",
                          field);
    }
    return require_base64(uri.substr(comma + 1), field);
}

class descriptor {
  public:
    explicit descriptor(int number) : number_(number) {}
    ~descriptor() { reset(-1); }
    descriptor(const descriptor &) = delete;
    descriptor & operator=(const descriptor &) = delete;
    int number() const { return number_; }
    void reset(int number) {
        if (number_ >= 0) {
            ::close(number_);
        }
        number_ = number;
    }

  private:
    int number_;
};

// Opens it one step after another, none of which may be a link or lead upwards.
int open_below(const std::string & directory, std::string_view path) {
    descriptor at(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (at.number() >= 0) {
        path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
        const size_t end = std::min(path.find('/'), path.size());
        const std::string name(path.substr(0, end));
        path.remove_prefix(end);
        const bool last = path.find_first_not_of('/') == std::string_view::npos;
        if (name.empty() || name == "." || name == ".." || (last && !path.empty())) {
            return -1;
        }
        // Not blocking: opening a pipe would wait for its other end.
        const int kind = last ? O_NONBLOCK : O_DIRECTORY;
        const int next = ::openat(at.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
        if (last || next < 0) {
            return next;
        }
        at.reset(next);
    }
    return -1;
}

std::string read_file(const std::string & directory, std::string_view path, const std::string & field) {
    if (directory.empty()) {
        throw bad_request("'" + field + "' is a file: URL, and this server reads none (--media-path)", field);
    }
    const auto refuse = [&](const char * why) { throw bad_request("'" + field + "' " + why, field); };
    if (path.size() > media_limits::path_bytes || path.find('\0') != std::string_view::npos) {
        refuse("names no file below --media-path");
    }
    const descriptor file(open_below(directory, path));
    struct stat there = {};
    if (file.number() < 0 || ::fstat(file.number(), &there) != 0 || !S_ISREG(there.st_mode)) {
        refuse("names no file below --media-path");
    }
    if (static_cast<uint64_t>(there.st_size) > media_limits::file_bytes) {
        refuse("names a file that is too large");
    }
    std::string bytes(static_cast<size_t>(there.st_size), '\0');
    size_t n = 0;
    while (n < bytes.size()) {
        const ssize_t got = ::read(file.number(), bytes.data() + n, bytes.size() - n);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            break;
        }
        n += got > 0 ? static_cast<size_t>(got) : 0;
    }
    bytes.resize(n);
    return bytes;
}

}  // namespace

std::optional<std::string> decode_base64(std::string_view text) {
    static const std::array<int8_t, 256> digits = make_digits();
    while (!text.empty() && text.back() == '=') {
        text.remove_suffix(1);
    }
    if (text.size() % 4 == 1) {
        return std::nullopt;
    }
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3 + 2);
    uint32_t bits = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const int8_t digit = digits[static_cast<unsigned char>(text[i])];
        if (digit < 0) {
            return std::nullopt;
        }
        bits = bits << 6 | static_cast<uint32_t>(digit);
        if (i % 4 != 0) {
            bytes.push_back(static_cast<char>(bits >> (6 - 2 * (i % 4))));
        }
    }
    return bytes;
}

const projector & image_projector(const model & model, const std::string & type, const std::string & field) {
    const auto & projector = model.media();
    if (!projector || !projector->reads_images()) {
        throw bad_request("'" + field + "' is of type '" + type + "', and this model reads text only", field);
    }
    return *projector;
}

media_file read_media(const model & model, std::string_view source, const std::string & field) {
    if (starts_with(source, data_scheme)) {
        return {read_data_uri(source, field), field};
    }
    if (starts_with(source, file_scheme)) {
        return {read_file(model.params().media_path, source.substr(file_scheme.size()), field), field};
    }
    if (starts_with(source, "http://") || starts_with(source, "https://")) {
        throw error(error_kind::media_url,
                    "'" + field + "' is a URL, and none are fetched here: give the image as a data: URI", field);
    }
    return {require_base64(source, field), field};
}

media_file read_image_url(const model & model, const common_json & part, const std::string & field) {
    image_projector(model, "image_url", field);
    const std::string name = field + ".image_url";
    const common_json & image = required(part, "image_url", field);
    if (image.is_string()) {
        return read_media(model, image.get<std::string>(), name);
    }
    return read_media(model, as_string(required(as_object(image, name), "url", name), name + ".url"), name + ".url");
}

void add_media(media_file file, std::vector<media_file> & files) {
    size_t n_bytes = file.bytes.size();
    for (const media_file & each : files) {
        n_bytes += each.bytes.size();
    }
    if (files.size() >= media_limits::n_files || n_bytes > media_limits::all_bytes) {
        throw bad_request("'" + file.field + "' is one image too many: " + std::to_string(media_limits::n_files) +
                              " are the most, of " + std::to_string(media_limits::all_bytes >> 20) + " MiB together",
                          file.field);
    }
    files.push_back(std::move(file));
}

}  // namespace pyllama
