#include "projector.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "bytes.h"
#include "errors.h"
#include "image_header.h"
#include "log_sink.h"
#include "mtmd-helper.h"
#include "random_id.h"
#include "tokenize.h"

namespace pyllama {

namespace {

[[noreturn]] void cannot_load(const std::string & path, const std::string & why) {
    throw error(error_kind::model_load, "cannot load the projector '" + path + "': " + why);
}

std::string reason_in(const log_capture & logged) {
    const std::string & text = logged.text();
    return text.empty() ? "mtmd refuses it" : text.substr(0, text.find('\n'));
}

// mtmd has a log of its own. It goes where llama.cpp's goes.
void join_logs() {
    ggml_log_callback callback = nullptr;
    void * data = nullptr;
    llama_log_get(&callback, &data);
    mtmd_helper_log_set(callback, data);
}

// As llama-server: clients that write it themselves learn it from /props.
std::string choose_marker() {
    const char * given = std::getenv("LLAMA_MEDIA_MARKER");
    return given != nullptr && *given != 0 ? given : "<__media_" + random_id() + "__>";
}

uint64_t identity_of(const std::string & path, const mtmd_context_params & params) {
    constexpr size_t n_looked_at = size_t{1} << 20;
    checksum sum;
    std::error_code failed;
    const uint64_t size = std::filesystem::file_size(path, failed);
    sum.add(&size, sizeof(size));
    std::vector<char> head(n_looked_at);
    std::ifstream file(path, std::ios::binary);
    file.read(head.data(), static_cast<std::streamsize>(head.size()));
    sum.add(head.data(), static_cast<size_t>(file.gcount()));
    const int limits[] = {params.image_min_tokens, params.image_max_tokens};
    sum.add(limits, sizeof(limits));
    return sum.value();
}

// What sees itself in both directions is decoded in one ubatch: images are made no larger.
void limit_to_ubatch(const std::string & path, const common_params & params, mtmd_context_params & options) {
    const int32_t n_ubatch = std::min(params.n_batch, params.n_ubatch);
    const mtmd_memory_usage usage = mtmd_get_memory_usage(path.c_str(), options);
    if (usage.use_non_causal && usage.image_max_tokens > n_ubatch) {
        log_text(log_level::warn, "images are limited to " + std::to_string(n_ubatch) + " tokens instead of " +
                                      std::to_string(usage.image_max_tokens) +
                                      ", as this model reads one in one ubatch (--ubatch-size)");
        options.image_max_tokens = n_ubatch;
        options.image_min_tokens = std::min(options.image_min_tokens, n_ubatch);
    }
}

void check_image(const media_file & file) {
    const auto refuse = [&](const std::string & why) { throw bad_request("'" + file.field + "' " + why, file.field); };
    const auto header = read_image_header(file.bytes);
    if (!header) {
        refuse("is no JPEG, PNG, GIF or BMP image");
    }
    const uint32_t longer = std::max(header->width, header->height);
    const uint32_t shorter = std::min(header->width, header->height);
    const std::string size = std::to_string(header->width) + "x" + std::to_string(header->height);
    if (shorter == 0 || longer > image_limits::side ||
        uint64_t{header->width} * header->height > image_limits::n_pixels) {
        refuse("is an image of " + size + " pixels: " + std::to_string(image_limits::n_pixels) + " are the most");
    }
    if (longer > uint64_t{image_limits::aspect} * shorter) {
        refuse("is an image of " + size + " pixels: no side may be more than " + std::to_string(image_limits::aspect) +
               " times the other");
    }
    if (header->n_scans > image_limits::n_scans) {
        refuse("is a JPEG of more than " + std::to_string(image_limits::n_scans) + " scans");
    }
}

void append(const std::vector<llama_token> & more, std::vector<llama_token> & tokens) {
    tokens.insert(tokens.end(), more.begin(), more.end());
}

bool is_sequential(const mtmd_input_chunk * chunk) {
    const mtmd_image_tokens * image = mtmd_input_chunk_get_tokens_image(chunk);
    return image != nullptr && mtmd_input_chunk_get_n_tokens(chunk) > 1 &&
           mtmd_image_tokens_get_decoder_pos(image, 0, 1).t > 0;
}

bool is_wanted(const common_params & params) {
    return !params.mmproj.path.empty() && !params.no_mmproj;
}

mtmd_context_params options_of(const common_params & params) {
    mtmd_context_params options = mtmd_context_params_default();
    options.use_gpu = params.mmproj_use_gpu;
    options.device = params.mmproj_device;
    options.print_timings = false;
    options.n_threads = params.cpuparams.n_threads;
    options.flash_attn_type = params.flash_attn_type;
    options.warmup = params.warmup;
    options.image_min_tokens = params.image_min_tokens;
    options.image_max_tokens = params.image_max_tokens;
    return options;
}

}  // namespace

std::map<ggml_backend_dev_t, size_t> projector::memory(const common_params & params) {
    if (!is_wanted(params)) {
        return {};
    }
    join_logs();
    const log_capture quiet;
    return mtmd_get_memory_usage(params.mmproj.path.c_str(), options_of(params)).backend_mem_usage;
}

std::shared_ptr<const projector> projector::load(const llama_model * model, const common_params & params) {
    const std::string & path = params.mmproj.path;
    if (!is_wanted(params)) {
        return nullptr;
    }
    join_logs();
    const log_capture logged;
    if (!std::ifstream(path)) {
        cannot_load(path, "the file cannot be read");
    }
    std::shared_ptr<projector> loaded(new projector());
    loaded->marker_ = choose_marker();
    loaded->n_embd_ = static_cast<size_t>(llama_model_n_embd_inp(model));
    mtmd_context_params options = options_of(params);
    options.media_marker = loaded->marker_.c_str();
    try {
        limit_to_ubatch(path, params, options);
        loaded->context_.reset(mtmd_init_from_file(path.c_str(), model, options));
    } catch (const std::exception & e) {
        cannot_load(path, e.what());
    }
    if (!loaded->context_) {
        cannot_load(path, reason_in(logged));
    }
    loaded->identity_ = identity_of(path, options);
    return loaded;
}

media_prompt projector::read(const media_file & file, bool only_counted) const {
    check_image(file);
    const std::lock_guard<std::mutex> lock(reading_);
    const log_capture quiet;
    const auto * bytes = reinterpret_cast<const unsigned char *>(file.bytes.data());
    const mtmd::bitmap_ptr bitmap(mtmd_helper_bitmap_init_from_buf(context_.get(), bytes, file.bytes.size(), false,
                                                                   mtmd_helper_init_opt_default())
                                      .bitmap);
    if (!bitmap) {
        throw bad_request("'" + file.field + "' is an image that cannot be decoded", file.field);
    }
    const mtmd_input_part part = {nullptr, bitmap.get()};
    const mtmd_input_part * parts[] = {&part};
    const mtmd::input_chunks chunks(mtmd_input_chunks_init());
    if (mtmd_tokenize_from_parts(context_.get(), chunks.ptr.get(), parts, 1, false) != 0) {
        throw bad_request("'" + file.field + "' is an image that this model cannot read", file.field);
    }
    media_prompt piece;
    for (size_t i = 0; i < chunks.size(); ++i) {
        if (mtmd_input_chunk_get_type(chunks[i]) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
            size_t n = 0;
            const llama_token * tokens = mtmd_input_chunk_get_tokens_text(chunks[i], &n);
            piece.tokens.insert(piece.tokens.end(), tokens, tokens + n);
            continue;
        }
        media_span span;
        span.begin = static_cast<int32_t>(piece.tokens.size());
        mtmd::input_chunk_ptr chunk(only_counted ? mtmd_input_chunk_get_placeholder(chunks[i])
                                                 : mtmd_input_chunk_copy(chunks[i]));
        if (!chunk) {
            throw error(error_kind::engine, "mtmd could not copy a chunk");
        }
        span.media = std::make_shared<media_chunk>(shared_from_this(), std::move(chunk),
                                                   static_cast<uint32_t>(piece.media.size()));
        append(span.media->tokens(), piece.tokens);
        piece.media.push_back(std::move(span));
    }
    return piece;
}

media_prompt projector::place(const llama_vocab * vocab, const std::string & text,
                              const std::vector<media_prompt> & files, const std::string & field) const {
    media_prompt prompt;
    const auto add_special = [&](bool wanted, llama_token token) {
        if (wanted && token != LLAMA_TOKEN_NULL) {
            prompt.tokens.push_back(token);
        }
    };
    const auto add_text = [&](size_t begin, size_t end) {
        if (end > begin) {
            append(pyllama::tokenize(vocab, text.substr(begin, end - begin), false, true, field), prompt.tokens);
        }
    };
    const auto wrong_number = [&] {
        throw bad_request(
            "'" + field + "' has not as many media markers as it has media (" + std::to_string(files.size()) + ")",
            field);
    };
    add_special(llama_vocab_get_add_bos(vocab), llama_vocab_bos(vocab));
    size_t begin = 0;
    for (const media_prompt & file : files) {
        const size_t at = text.find(marker_, begin);
        if (at == std::string::npos) {
            wrong_number();
        }
        add_text(begin, at);
        // A layout in which an image's number is part of its positions, and each file is read alone here.
        if (!prompt.media.empty() && !file.media.empty() && mtmd_decode_use_mrope(context_.get()) &&
            is_sequential(file.media.front().media->handle())) {
            throw bad_request("'" + field + "' has several images, and this model takes one a prompt here", field);
        }
        const auto n = static_cast<int32_t>(prompt.tokens.size());
        for (const media_span & span : file.media) {
            prompt.media.push_back({span.begin + n, span.media});
        }
        append(file.tokens, prompt.tokens);
        begin = at + marker_.size();
    }
    if (text.find(marker_, begin) != std::string::npos) {
        wrong_number();
    }
    add_text(begin, text.size());
    add_special(llama_vocab_get_add_eos(vocab), llama_vocab_eos(vocab));
    return prompt;
}

media_prompt projector::tokenize(const llama_vocab * vocab, const std::string & text,
                                 const std::vector<media_file> & files, int32_t n_ctx, const std::string & field,
                                 bool only_counted) const {
    std::vector<media_prompt> pieces;
    size_t n = 0;
    for (const media_file & file : files) {
        pieces.push_back(read(file, only_counted));
        n += pieces.back().tokens.size();
        if (n >= static_cast<size_t>(n_ctx)) {
            throw context_exceeded(static_cast<int64_t>(n), n_ctx);
        }
    }
    return place(vocab, text, pieces, field);
}

media_chunk::rows projector::encode(const media_chunk & chunk) const {
    const log_capture quiet;
    if (mtmd_encode_chunk(context_.get(), chunk.handle()) != 0) {
        log_text(log_level::error, "an image could not be encoded");
        return nullptr;
    }
    const float * rows = mtmd_get_output_embd(context_.get());
    return std::make_shared<const std::vector<float>>(rows, rows + static_cast<size_t>(chunk.n_rows()) * n_embd_);
}

}  // namespace pyllama
