#include "prompt_writer.h"

#include <utility>

#include "chat_parser.h"
#include "completion_format.h"
#include "writer_anthropic_body.h"
#include "writer_anthropic_stream.h"
#include "writer_deltas.h"
#include "writer_openai_body.h"
#include "writer_openai_stream.h"
#include "writer_paddler.h"
#include "writer_responses_body.h"
#include "writer_responses_stream.h"

namespace pyllama {

namespace {

std::vector<chat_parser> make_parsers(const model & model, const chat_request & request,
                                      const common_chat_session & session, const std::string & continued,
                                      dialect dialect) {
    chat_parser_options options;
    options.echo = request.echo;
    // Which tokens are the content's is known while the answer grows.
    const bool tells_tokens = dialect == dialect::responses && request.n_logprobs >= 0;
    options.incremental = always_streams(dialect) || request.stream || tells_tokens;
    options.continued = continued;
    std::vector<chat_parser> parsers;
    for (int32_t i = 0; i < request.n_choices; ++i) {
        parsers.emplace_back(session, model.vocab(), options);
    }
    return parsers;
}

template <typename stream_writer, typename body_writer, typename format_type>
std::unique_ptr<frame_writer> stream_or_body(bool stream, format_type format, std::vector<chat_parser> parsers) {
    if (stream) {
        return std::make_unique<stream_writer>(std::move(format), std::move(parsers));
    }
    return std::make_unique<body_writer>(std::move(format), std::move(parsers));
}

std::unique_ptr<frame_writer> make_dialect(const chat_request & request, answer_format && format,
                                           std::vector<chat_parser> parsers, dialect dialect,
                                           prepared_request & prepared) {
    const generation_params & params = prepared.params;
    switch (dialect) {
        case dialect::responses: {
            responses_format response{std::move(format), request.repeated,
                                      request.timings_per_token || request.return_progress, request.background};
            if (request.background) {
                append_response(prepared.receipt, response, response_status::queued, {}, nullptr);
            }
            return stream_or_body<writer_responses_stream, writer_responses_body>(request.stream, std::move(response),
                                                                                  std::move(parsers));
        }
        case dialect::anthropic: {
            const auto own = params.stop.end() - static_cast<std::ptrdiff_t>(params.template_stop.size());
            return stream_or_body<writer_anthropic_stream, writer_anthropic_body>(
                request.stream, anthropic_format{std::move(format), {params.stop.begin(), own}}, std::move(parsers));
        }
        case dialect::deltas: return std::make_unique<writer_deltas>(std::move(format), std::move(parsers));
        case dialect::paddler:
            return std::make_unique<writer_paddler>(std::move(format), std::move(parsers), request.parse_tool_calls);
        default: break;
    }
    return stream_or_body<writer_openai_stream, writer_openai_body>(request.stream, std::move(format),
                                                                    std::move(parsers));
}

}  // namespace

std::unique_ptr<frame_writer> make_chat_writer(const std::shared_ptr<const model> & model, const chat_request & request,
                                               const common_chat_session & session, const std::string & continued,
                                               dialect dialect, prepared_request & prepared) {
    completion_format format = make_format(model, request, prepared, false);
    auto writer = make_dialect(request, answer_format(format),
                               make_parsers(*model, request, session, continued, dialect), dialect, prepared);
    return dialect == dialect::openai ? with_verbose(std::move(writer), std::move(format), request) : std::move(writer);
}

}  // namespace pyllama
