#include "chat_parser.h"

#include <algorithm>
#include <chrono>
#include <string_view>

#include "random_id.h"

namespace pyllama {

namespace {

// Share of a stream's time that parsing may take.
constexpr double parse_share = 0.05;
// Text after a failed parse until the answer counts as plain: some parsers want to see a little more.
constexpr size_t patience_bytes = 256;
// llama-common's JSON parser recurses once or more per bracket; no tool wants this many.
constexpr int max_depth = 500;

bool starts_with(const std::string & text, const std::string & head) {
    return text.compare(0, head.size(), head) == 0;
}

// Moves `sent` on to `now`. False when `now` takes something back that was sent, other than its very end, which a
// parser may withhold again while it could begin a tag.
bool advance(std::string & sent, const std::string & now, std::string & delta) {
    if (starts_with(now, sent)) {
        delta.append(now, sent.size(), std::string::npos);
        sent = now;
        return true;
    }
    return starts_with(sent, now);
}

}  // namespace

double chat_parser::steady_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

chat_parser::chat_parser(const common_chat_session & session, const llama_vocab * vocab,
                         const chat_parser_options & options, clock now)
    : incremental_(options.incremental), now_(std::move(now)) {
    params_.format = session.format();
    params_.parser = session.parser();
    const std::string & prefix = session.generation_prompt();
    input_ = vocab != nullptr ? common_chat_input_tokenize(vocab, prefix) : common_chat_input(prefix);
    n_parsed_ = input_.size();
    if (!options.echo) {
        // A continued message: what the client already has.
        reasoning_ = session.msg().reasoning_content;
        content_ = session.msg().content;
    }
    parsed_at_ = now_();
}

void chat_parser::append(const std::string & text, llama_token token) {
    for (const char c : text) {
        if (c == '[' || c == '{') {
            ++depth_;
        } else if ((c == ']' || c == '}') && depth_ > 0) {
            --depth_;
        }
        plain_ = plain_ || depth_ > max_depth;
    }
    input_.append(text, token);
}

chat_delta chat_parser::feed(const std::vector<piece> & batch) {
    for (const piece & value : batch) {
        append(value.text, value.token);
    }
    return incremental_ && flush_due_ms() == 0 ? parse(false, true) : chat_delta();
}

chat_delta chat_parser::flush() { return n_parsed_ < input_.size() ? parse(false, true) : chat_delta(); }

chat_delta chat_parser::finish(bool complete) { return parse(true, complete); }

double chat_parser::flush_due_ms() const {
    if (!incremental_ || n_parsed_ == input_.size()) {
        return -1;
    }
    if (plain_) {
        return 0;
    }
    return std::max(0.0, parsed_at_ + cost_ms_ / parse_share - now_());
}

chat_delta chat_parser::become_plain() {
    plain_ = true;
    chat_delta delta;
    delta.content.assign(input_.text, n_parsed_, std::string::npos);
    content_ += delta.content;
    n_parsed_ = input_.size();
    return delta;
}

// Parses the longest head that matches, found by bisection, and gives the rest as content. Once per answer.
chat_delta chat_parser::salvage() {
    common_chat_msg message;
    size_t good = n_parsed_;
    bool found = false;
    for (size_t bad = input_.size(); bad - good > 1;) {
        const size_t middle = good + (bad - good) / 2;
        try {
            message = common_chat_parse(input_.substr(0, middle), false, params_);
            good = middle;
            found = true;
        } catch (const std::exception &) {
            bad = middle;
        }
    }
    chat_delta delta;
    if (found && diff(message, false, false, delta)) {
        n_parsed_ = good;
    }
    delta.content += become_plain().content;
    return delta;
}

chat_delta chat_parser::parse(bool last, bool complete) {
    if (plain_) {
        return become_plain();
    }
    const double began = now_();
    common_chat_msg message;
    bool matched = true;
    try {
        // Not as a partial text: that hides a mismatch, and a text that only ends early matches anyway.
        message = common_chat_parse(input_, false, params_);
    } catch (const std::exception &) {
        matched = false;
    }
    parsed_at_ = now_();
    cost_ms_ = parsed_at_ - began;

    chat_delta delta;
    if (matched) {
        if (!diff(message, last, complete, delta)) {
            return become_plain();
        }
        n_parsed_ = input_.size();
        n_failed_ = 0;
        return delta;
    }
    if (last || (n_failed_ > 0 && input_.size() - n_failed_ > patience_bytes)) {
        return salvage();
    }
    if (n_failed_ == 0) {
        n_failed_ = input_.size();
    }
    return delta;
}

bool chat_parser::diff(const common_chat_msg & message, bool last, bool complete, chat_delta & delta) {
    const auto previous = std::make_pair(reasoning_.size(), content_.size());
    const bool grows = message.tool_calls.size() >= calls_.size() &&
                       advance(reasoning_, message.reasoning_content, delta.reasoning) &&
                       advance(content_, message.content, delta.content) &&
                       std::equal(calls_.begin(), calls_.end(), message.tool_calls.begin(),
                                  [](const sent_call & sent, const common_chat_tool_call & now) {
                                      return starts_with(now.arguments, sent.arguments) ||
                                             starts_with(sent.arguments, now.arguments);
                                  });
    if (!grows) {
        reasoning_.resize(previous.first);
        content_.resize(previous.second);
        delta = {};
        return false;
    }
    for (size_t i = 0; i < message.tool_calls.size(); ++i) {
        diff_call(message, i, last, complete, delta);
    }
    return true;
}

// A call is announced when its name can no longer grow: with its first argument bytes, when another call follows,
// or at the end.
void chat_parser::diff_call(const common_chat_msg & message, size_t index, bool last, bool complete,
                            chat_delta & delta) {
    const common_chat_tool_call & call = message.tool_calls[index];
    const bool closed = index + 1 < message.tool_calls.size() || (last && complete);
    tool_call_delta change;
    change.index = index;
    if (index == calls_.size()) {
        if (call.name.empty() || (call.arguments.empty() && !closed && !last)) {
            return;
        }
        change.id = call.id.empty() ? random_id() : call.id;
        change.name = call.name;
        calls_.push_back({change.id, {}});
    } else if (index > calls_.size()) {
        return;
    }
    std::string & sent = calls_[index].arguments;
    advance(sent, call.arguments, change.arguments);
    if (closed && sent.empty()) {
        sent = change.arguments = "{}";  // clients parse it as JSON
    }
    if (!change.name.empty() || !change.arguments.empty()) {
        delta.tool_calls.push_back(std::move(change));
    }
}

}  // namespace pyllama
