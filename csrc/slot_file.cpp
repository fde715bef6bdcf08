#include "slot_file.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>

#include "bytes.h"
#include "foreign_state.h"
#include "llama.h"
#include "media_token.h"
#include "projector.h"

namespace pyllama {

namespace {

constexpr uint32_t packed_version = 1;
constexpr uint32_t checkpoints_magic = 0x504b4353;
constexpr uint32_t checkpoints_version = 1;
constexpr std::array<uint8_t, 16> proof_magic = {'p',  'y',  'l',  'l',  'a',  'm',  'a',  's',
                                                 0xd1, 0x7c, 0x02, 0xe9, 0x5b, 0x88, 0x3f, 0xa6};

std::vector<uint8_t> checkpoint_part(const std::vector<checkpoint> & checkpoints) {
    byte_writer out;
    out.put(checkpoints_magic);
    out.put(checkpoints_version);
    out.put(static_cast<uint32_t>(checkpoints.size()));
    for (const checkpoint & each : checkpoints) {
        out.put(static_cast<int64_t>(each.n_tokens));
        out.put(each.pos_min);
        out.put(each.pos_max);
        out.put(static_cast<uint64_t>(each.data.size()));
        out.put_bytes(each.data.data(), each.data.size());
        out.put(uint64_t{0});  // of a draft model
        out.put(uint64_t{0});  // of speculative decoding
    }
    return out.take();
}

std::vector<uint32_t> media_begins(const llama_tokens & tokens) {
    std::vector<uint32_t> begins;
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (begins_media(tokens[i])) {
            begins.push_back(static_cast<uint32_t>(i));
        }
    }
    return begins;
}

// Plain tokens, or, behind a null token, tokens and the places of media.
llama_tokens unpack_tokens(const std::vector<uint8_t> & file, size_t begin, size_t end, bool media) {
    byte_reader in(file, begin, end);
    if (end - begin < sizeof(llama_token) || in.get<llama_token>() != LLAMA_TOKEN_NULL) {
        return byte_reader(file, begin, end).list<llama_token>((end - begin) / sizeof(llama_token));
    }
    if (in.get<uint32_t>() != packed_version) {
        refuse_file("its tokens are packed in a way that is not known here");
    }
    llama_tokens tokens = in.list<llama_token>(in.get<uint32_t>());
    const auto n_media = in.get<uint32_t>();
    if (n_media != 0 && !media) {
        refuse_file("Cannot restore media tokens without an mmproj");
    }
    const std::vector<uint32_t> begins = in.list<uint32_t>(n_media);
    if (begins != media_begins(tokens)) {
        refuse_file("it holds media in a way that is not known here");
    }
    return tokens;
}

struct proof {
    uint64_t identity = 0;
    uint64_t tokens = 0;
    uint64_t state = 0;
    int32_t n_exact = 0;
    std::vector<float> scales;
    std::vector<uint64_t> checkpoints;
    size_t begin = 0;
    size_t end = 0;
};

void put_proof(const saved_sequence & saved, uint64_t identity, byte_writer & out) {
    byte_writer body;
    body.put_bytes(proof_magic.data(), proof_magic.size());
    body.put(identity);
    body.put(checksum_of(saved.tokens.data(), saved.tokens.size() * sizeof(llama_token)));
    body.put(checksum_of(saved.state.data() + state_head, saved.state.size() - state_head));
    body.put(saved.n_exact);
    body.put(static_cast<uint32_t>(saved.lora ? saved.lora->size() : 0));
    body.put(static_cast<uint32_t>(saved.checkpoints.size()));
    for (size_t i = 0; saved.lora && i < saved.lora->size(); ++i) {
        body.put(saved.lora->at(i));
    }
    for (const checkpoint & each : saved.checkpoints) {
        body.put(checksum_of(each.data.data(), each.data.size()));
    }
    body.put(checksum_of(body.bytes().data(), body.bytes().size()));
    out.put_bytes(body.bytes().data(), body.bytes().size());
}

// Looks for ours behind `begin`. False when there is none; throws end_of_file when it is cut.
bool find_proof(const std::vector<uint8_t> & file, size_t begin, proof & found) {
    const auto from = file.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto at =
        std::search(from, file.end(), std::boyer_moore_horspool_searcher(proof_magic.begin(), proof_magic.end()));
    if (at == file.end()) {
        return false;
    }
    found.begin = static_cast<size_t>(at - file.begin());
    byte_reader in(file, found.begin, file.size());
    in.skip(proof_magic.size());
    found.identity = in.get<uint64_t>();
    found.tokens = in.get<uint64_t>();
    found.state = in.get<uint64_t>();
    found.n_exact = in.get<int32_t>();
    const auto n_scales = in.get<uint32_t>();
    const auto n_checkpoints = in.get<uint32_t>();
    found.scales = in.list<float>(n_scales);
    found.checkpoints = in.list<uint64_t>(n_checkpoints);
    const uint64_t sum = checksum_of(file.data() + found.begin, in.at() - found.begin);
    if (in.get<uint64_t>() != sum) {
        refuse_file("the file is damaged: a checksum does not match");
    }
    found.end = in.at();
    return true;
}

void check_proof(const std::vector<uint8_t> & file, const slot_file_limits & limits, const proof & found,
                 slot_file_contents & contents) {
    if (found.identity != limits.identity) {
        refuse_file("the file belongs to another model, or to other flags that change what it computes");
    }
    if (found.scales.size() != limits.n_adapters) {
        refuse_file("the file belongs to a server with other LoRA adapters");
    }
    contents.state_size = found.begin - contents.state_begin;
    if (found.tokens != checksum_of(contents.tokens.data(), contents.tokens.size() * sizeof(llama_token)) ||
        found.state != checksum_of(file.data() + contents.state_begin, contents.state_size)) {
        refuse_file("the file is damaged: a checksum does not match");
    }
    if (!found.scales.empty()) {
        contents.lora = std::make_shared<const std::vector<float>>(found.scales);
    }
    contents.n_exact = found.n_exact;
    contents.n_read = found.end;
}

// Where the checkpoints cannot be read, there are none, and the file ends in front of them.
void read_checkpoints(const std::vector<uint8_t> & file, const std::vector<uint64_t> & known, size_t most,
                      slot_file_contents & contents) {
    std::vector<checkpoint> checkpoints;
    byte_reader in(file, contents.n_read, file.size());
    try {
        if (in.get<uint32_t>() != checkpoints_magic || in.get<uint32_t>() != checkpoints_version) {
            return;
        }
        const auto n = in.get<uint32_t>();
        for (uint32_t i = 0; i < n; ++i) {
            checkpoint next;
            const auto n_tokens = in.get<int64_t>();
            next.pos_min = in.get<llama_pos>();
            next.pos_max = in.get<llama_pos>();
            next.data = shared_bytes(in.list<uint8_t>(in.get<uint64_t>()));
            in.skip(in.get<uint64_t>());
            in.skip(in.get<uint64_t>());
            if (next.data.empty()) {
                return;
            }
            if (n_tokens <= 0 || n_tokens > static_cast<int64_t>(contents.tokens.size()) ||
                std::find(known.begin(), known.end(), checksum_of(next.data.data(), next.data.size())) == known.end()) {
                continue;
            }
            next.n_tokens = static_cast<int32_t>(n_tokens);
            checkpoints.push_back(std::move(next));
        }
    } catch (const end_of_file &) {
        return;
    }
    if (checkpoints.size() > most) {
        checkpoints.erase(checkpoints.begin(), checkpoints.end() - static_cast<std::ptrdiff_t>(most));
    }
    contents.checkpoints = std::move(checkpoints);
    contents.n_read = in.at();
}

slot_file_contents parse(const std::vector<uint8_t> & file, const slot_file_limits & limits) {
    byte_reader in(file, 0, file.size());
    if (in.get<uint32_t>() != LLAMA_STATE_SEQ_MAGIC || in.get<uint32_t>() != LLAMA_STATE_SEQ_VERSION) {
        refuse_file("it is no saved slot of this version");
    }
    const auto n_words = in.get<uint32_t>();
    const size_t packed = in.at();
    in.skip(uint64_t{n_words} * sizeof(llama_token));
    slot_file_contents contents;
    contents.state_begin = in.at();
    contents.tokens = unpack_tokens(file, packed, contents.state_begin, limits.media);
    if (contents.tokens.size() > static_cast<size_t>(limits.n_ctx)) {
        refuse_file("it holds " + std::to_string(contents.tokens.size()) + " tokens, and a slot has room for " +
                    std::to_string(limits.n_ctx));
    }
    for (const llama_token token : contents.tokens) {
        if ((token < 0 && !(limits.media && is_media(token))) || token >= limits.n_vocab) {
            refuse_file("it holds tokens that the vocabulary does not have");
        }
    }
    proof found;
    if (find_proof(file, contents.state_begin, found)) {
        check_proof(file, limits, found, contents);
    } else if (limits.plain_attention && !has_media(contents.tokens)) {
        const size_t end =
            check_foreign_state(file, contents.state_begin, static_cast<int32_t>(contents.tokens.size()));
        contents.state_size = end - contents.state_begin;
        contents.n_read = end;
    } else {
        refuse_file("it has no checksum, or was cut short, and this kind of memory cannot be checked without one");
    }
    read_checkpoints(file, found.checkpoints, limits.n_checkpoints, contents);
    return contents;
}

}  // namespace

uint64_t state_identity(const model & source) {
    checksum sum;
    const auto add_text = [&sum](const std::string & text) { sum.add(text.data(), text.size()); };
    std::map<std::string, std::string> facts;
    char key[256] = {};
    char value[256] = {};
    for (int32_t i = 0; i < llama_model_meta_count(source.handle()); ++i) {
        llama_model_meta_key_by_index(source.handle(), i, key, sizeof(key));
        llama_model_meta_val_str_by_index(source.handle(), i, value, sizeof(value));
        facts[key] = value;
    }
    for (const auto & [name, text] : facts) {
        add_text(name);
        add_text(text);
    }
    const uint64_t n_params = llama_model_n_params(source.handle());
    sum.add(&n_params, sizeof(n_params));
    const common_params & params = source.params();
    for (const common_control_vector_load_info & vector : params.control_vectors) {
        add_text(vector.fname);
        sum.add(&vector.strength, sizeof(vector.strength));
    }
    for (const common_adapter_lora_info & adapter : params.lora_adapters) {
        add_text(adapter.path);
    }
    const float numbers[] = {params.rope_freq_base,
                             params.rope_freq_scale,
                             params.yarn_ext_factor,
                             params.yarn_attn_factor,
                             params.yarn_beta_fast,
                             params.yarn_beta_slow,
                             static_cast<float>(params.yarn_orig_ctx),
                             static_cast<float>(params.rope_scaling_type),
                             static_cast<float>(params.control_vector_layer_start),
                             static_cast<float>(params.control_vector_layer_end)};
    sum.add(numbers, sizeof(numbers));
    if (source.media()) {
        const uint64_t media = source.media()->identity();
        sum.add(&media, sizeof(media));
    }
    return sum.value();
}

slot_file_parts pack_slot_file(const saved_sequence & saved, uint64_t identity) {
    byte_writer head;
    head.put(uint32_t{LLAMA_STATE_SEQ_MAGIC});
    head.put(uint32_t{LLAMA_STATE_SEQ_VERSION});
    const auto n_tokens = static_cast<uint32_t>(saved.tokens.size());
    const std::vector<uint32_t> begins = media_begins(saved.tokens);
    const auto n_media = static_cast<uint32_t>(begins.size());
    head.put(n_tokens + 4 + n_media);
    head.put(llama_token{LLAMA_TOKEN_NULL});
    head.put(packed_version);
    head.put(n_tokens);
    head.put_bytes(saved.tokens.data(), saved.tokens.size() * sizeof(llama_token));
    head.put(n_media);
    head.put_bytes(begins.data(), begins.size() * sizeof(uint32_t));
    byte_writer tail;
    put_proof(saved, identity, tail);
    if (!saved.checkpoints.empty()) {
        const std::vector<uint8_t> part = checkpoint_part(saved.checkpoints);
        tail.put_bytes(part.data(), part.size());
    }
    return {head.take(), tail.take()};
}

slot_file_contents parse_slot_file(const std::vector<uint8_t> & file, const slot_file_limits & limits) {
    try {
        return parse(file, limits);
    } catch (const end_of_file &) {
        refuse_file("the file is cut short");
    }
}

}  // namespace pyllama
