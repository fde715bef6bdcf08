#include "text_requests.h"

#include "json_text.h"
#include "prompt.h"
#include "prompt_tokens.h"
#include "request_json.h"
#include "tokenize.h"

namespace pyllama {

namespace {

bool flag(const common_json & body, const char * name, bool otherwise) {
    const common_json * value = find_field(body, name);
    return value != nullptr ? as_bool(*value, name) : otherwise;
}

// A list of bytes where the token is not whole characters.
void append_piece(std::string & out, const std::string & piece) {
    if (is_valid_utf8(piece)) {
        append_quoted(out, piece);
    } else {
        append_bytes(out, piece);
    }
}

std::string answer_tokenize(const model & model, const common_json & body) {
    llama_tokens tokens;
    if (const common_json * content = find_field(body, "content")) {
        tokens = tokenize_mixed(model, *content, flag(body, "add_special", false), flag(body, "parse_special", true),
                                "content");
    }
    const bool with_pieces = flag(body, "with_pieces", false);
    std::string out = "{\"tokens\":[";
    for (size_t i = 0; i < tokens.size(); ++i) {
        out += i > 0 ? "," : "";
        if (!with_pieces) {
            append_integer(out, tokens[i]);
            continue;
        }
        out += "{\"id\":";
        append_integer(out, tokens[i]);
        out += ",\"piece\":";
        append_piece(out, model.piece(tokens[i], true));
        out += '}';
    }
    return out + "]}";
}

std::string answer_detokenize(const model & model, const common_json & body) {
    llama_tokens tokens;
    if (const common_json * ids = find_field(body, "tokens")) {
        for (const common_json & id : as_array(*ids, "tokens")) {
            tokens.push_back(as_token(model, id, "tokens"));
        }
    }
    return "{\"content\":" + json_quoted(detokenize(model, tokens)) + "}";
}

std::string answer_count(const model & model, std::string_view body, dialect dialect) {
    return "{\"input_tokens\":" + std::to_string(count_chat_tokens(model, body, dialect)) +
           (dialect == dialect::anthropic ? "}" : ",\"object\":\"response.input_tokens\"}");
}

}  // namespace

std::string detokenize(const model & model, const llama_tokens & tokens) {
    std::string text;
    for (const llama_token token : tokens) {
        text += model.piece(token, true);
    }
    return text;
}

std::string answer(const model & model, text_request kind, std::string_view body) {
    switch (kind) {
        case text_request::tokenize: return answer_tokenize(model, parse_body(body));
        case text_request::detokenize: return answer_detokenize(model, parse_body(body));
        case text_request::apply_template: return "{\"prompt\":" + json_quoted(render_chat(model, body)) + "}";
        case text_request::count_responses_tokens: return answer_count(model, body, dialect::responses);
        case text_request::count_anthropic_tokens: return answer_count(model, body, dialect::anthropic);
        case text_request::count_tokens: break;
    }
    return answer_count(model, body, dialect::openai);
}

}  // namespace pyllama
