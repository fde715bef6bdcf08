#include "chat_parser.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iterator>
#include <string_view>
#include <utility>

#include "chat-peg-parser.h"
#include "random_id.h"

namespace pyllama {

namespace {

// Share of the time that parsing may take, for all streams together.
constexpr double parse_share = 0.02;
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

void add(chat_delta & delta, chat_delta && more) {
    delta.reasoning += more.reasoning;
    delta.content += more.content;
    delta.tool_calls.insert(delta.tool_calls.end(), std::make_move_iterator(more.tool_calls.begin()),
                            std::make_move_iterator(more.tool_calls.end()));
}

}  // namespace

double chat_parser::steady_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

double chat_parser::thread_ms() {
    timespec spent{};
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent) == 0
               ? static_cast<double>(spent.tv_sec) * 1e3 + static_cast<double>(spent.tv_nsec) / 1e6
               : steady_ms();
}

chat_parser::chat_parser(const common_chat_session & session, const llama_vocab * vocab,
                         const chat_parser_options & options, chat_parser_clocks time)
    : plain_(options.plain), incremental_(options.incremental), time_(std::move(time)) {
    params_.format = session.format();
    params_.parser = session.parser();
    const std::string prefix = session.generation_prompt() + options.continued;
    input_ = vocab != nullptr ? common_chat_input_tokenize(vocab, prefix) : common_chat_input(prefix);
    n_parsed_ = n_counted_ = input_.size();
    if (params_.parser.empty()) {
        content_end_.emplace();  // all text is content
    } else {
        reasoning_end_ = text_delimiters(params_.parser, common_chat_peg_builder::REASONING);
        content_end_ = text_delimiters(params_.parser, common_chat_peg_builder::CONTENT);
        json_arguments_ = has_json_arguments(params_.parser);
        tagged_string_end_ = text_delimiters(params_.parser, common_chat_peg_builder::TOOL_ARG_STRING_VALUE);
    }
    if (!options.echo) {
        skip_continued(session, options.continued);
    }
    time_.now = time_.now ? time_.now : steady_ms;
    time_.spent = time_.spent ? time_.spent : thread_ms;
    parsed_at_ = time_.now();
}

// The client already has the texts of a continued message.
void chat_parser::skip_continued(const common_chat_session & session, const std::string & continued) {
    common_chat_msg known = session.msg();
    if (!continued.empty()) {
        try {
            known = common_chat_parse(input_, true, params_);
        } catch (const std::exception &) {
            known.content = continued;
        }
    }
    reasoning_ = known.reasoning_content;
    content_ = known.content;
    const chat_delta tail = release_tail();
    reasoning_ += tail.reasoning;
    content_ += tail.content;
}

// In text of an open field brackets are prose, "[0, 1)" for example, and are not counted.
void chat_parser::count_brackets() {
    for (; n_counted_ < input_.size(); ++n_counted_) {
        const char c = input_.text[n_counted_];
        if (c == '[' || c == '{') {
            ++depth_;
        } else if ((c == ']' || c == '}') && depth_ > 0) {
            --depth_;
        }
        plain_ = plain_ || depth_ > max_depth;
    }
}

chat_delta chat_parser::feed(const std::vector<piece> & batch) {
    for (const piece & value : batch) {
        input_.append(value.text, value.token);
    }
    chat_delta delta = follow();
    if (incremental_ && flush_due_ms() == 0) {
        add(delta, parse(false, true));
    }
    return delta;
}

chat_delta chat_parser::flush() {
    return open_ == field::none && n_parsed_ < input_.size() ? parse(false, true) : chat_delta();
}

chat_delta chat_parser::finish(bool complete) {
    chat_delta delta = parse(true, complete);
    if (!complete) {
        add(delta, release_tail());
    }
    return delta;
}

// What could have become a delimiter when the answer was cut belongs to the field that was open. Its text is the
// newest: only what is withheld follows it.
chat_delta chat_parser::release_tail() {
    chat_delta delta;
    const bool reasons = content_.empty();
    const std::string & sent = reasons ? reasoning_ : content_;
    const delimiters & ends = reasons ? reasoning_end_ : content_end_;
    if (plain_ || sent.empty() || !calls_.empty() || !ends) {
        return delta;
    }
    const std::string_view text = input_.text;
    size_t n_tail = 0;
    for (const std::string & end : *ends) {
        for (size_t n = std::min(end.size() - 1, text.size()); n > n_tail; --n) {
            if (text.substr(text.size() - n) == std::string_view(end).substr(0, n) &&
                string_ends_with(text.substr(0, text.size() - n), sent)) {
                n_tail = n;
            }
        }
    }
    (reasons ? delta.reasoning : delta.content) = text.substr(text.size() - n_tail);
    return delta;
}

double chat_parser::flush_due_ms() const {
    // What an open field leaves could begin a delimiter: only more text tells.
    if (!incremental_ || n_parsed_ == input_.size() || open_ != field::none) {
        return -1;
    }
    if (plain_) {
        return 0;
    }
    return std::max(0.0, parsed_at_ + static_cast<double>(n_sharing_) * cost_ms_ / parse_share - time_.now());
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
    const int depth = depth_;
    count_brackets();
    if (plain_) {
        return become_plain();
    }
    open_ = field::none;
    ++n_parses_;
    const double began = time_.spent();
    common_chat_msg message;
    bool matched = true;
    try {
        // Not as a partial text: that hides a mismatch, and a text that only ends early matches anyway.
        message = common_chat_parse(input_, false, params_);
    } catch (const std::exception &) {
        matched = false;
    }
    parsed_at_ = time_.now();
    cost_ms_ = time_.spent() - began;

    chat_delta delta;
    if (matched) {
        if (!diff(message, last, complete, delta)) {
            return become_plain();
        }
        const size_t begin = std::exchange(n_parsed_, input_.size());
        if (!last) {
            open_ = message.tool_calls.empty() ? open_after(delta, begin) : open_argument(message);
        }
        depth_ = open_ == field::reasoning || open_ == field::content ? depth : depth_;
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
    const bool grows =
        message.tool_calls.size() >= calls_.size() && advance(reasoning_, message.reasoning_content, delta.reasoning) &&
        advance(content_, message.content, delta.content) &&
        std::equal(calls_.begin(), calls_.end(), message.tool_calls.begin(),
                   [](const sent_call & sent, const common_chat_tool_call & now) {
                       return starts_with(now.arguments, sent.arguments) || starts_with(sent.arguments, now.arguments);
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
