// Where the bytes of media come from: what a client writes as a URL, or as base64 text. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "json.h"
#include "media.h"
#include "model.h"

namespace pyllama {

struct media_limits {
    static constexpr size_t n_files = 64;                   // of one prompt
    static constexpr size_t file_bytes = size_t{32} << 20;  // of one file
    static constexpr size_t path_bytes = 4096;
    static constexpr size_t all_bytes = size_t{128} << 20;  // of one request's files
};

// Nothing when the text is not base64. White space is none.
std::optional<std::string> decode_base64(std::string_view text);

// The projector. Throws error(invalid_request) naming `field` when the model has none that reads images; `type`: of the
// part that asks for one.
const projector & image_projector(const model & model, const std::string & type, const std::string & field);

// What a client wrote in place of an image: a data: URI, base64, or a file: URL of a file below --media-path. Throws
// error(invalid_request) naming the field; error(media_url) for other URLs, so that who called may fetch it.
media_file read_media(const model & model, std::string_view source, const std::string & field);

// The image of a part of OpenAI's type image_url, named `field`.
media_file read_image_url(const model & model, const common_json & part, const std::string & field);

// Adds it to the files of a prompt, within their limits.
void add_media(media_file file, std::vector<media_file> & files);

}  // namespace pyllama
