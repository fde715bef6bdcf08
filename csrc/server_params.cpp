#include "server_params.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "arg.h"
#include "errors.h"
#include "log.h"
#include "log_sink.h"
#include "prefix_cache.h"

#define PYLLAMA_NO_EXIT_SHIM_MACROS
#include "exit_shim.h"

namespace pyllama {

namespace {

struct own_flag {
    const char * name;
    const char * environment;
    const char * help;
    void (*set)(server_params & params, double value);
    double least;
    void (*set_text)(server_params & params, const std::string & text) = nullptr;  // instead of a number
    const char * text_value = nullptr;                                             // what stands for it in --help
};

const own_flag own_flags[] = {
    {"--share-prefixes", "PYLLAMA_SHARE_PREFIXES",
     "1: in a unified KV cache, prompts that begin alike share its cells and are decoded once; 0: not (default: 1)",
     [](server_params & p, double v) { p.share_prefixes = v != 0; }, 0},
    {"--prefix-sharing-scope", "PYLLAMA_PREFIX_SHARING_SCOPE",
     "whose prompts a request may go on from, in slots and in host memory: all, or key: those of its own API key, so "
     "that nobody learns from its times what others have asked. cache_salt in a request keeps it apart in either case "
     "(default: all)",
     nullptr, 0,
     [](server_params & p, const std::string & text) {
         if (text != "all" && text != "key") {
             throw bad_request("--prefix-sharing-scope: \"" + text + "\" is neither all nor key",
                               "--prefix-sharing-scope");
         }
         p.share_within_key = text == "key";
     },
     "{all,key}"},
    {"--max-queue", "PYLLAMA_MAX_QUEUE", "requests that may wait for a slot before new ones get 429 (default: 512)",
     [](server_params & p, double v) { p.max_queue = static_cast<int32_t>(v); }, 0},
    {"--key-priority", "PYLLAMA_KEY_PRIORITY",
     "API keys and the priority of their requests in the queue, from -10 to 10, higher first: KEY=N,...; * is for all "
     "others, and for everybody where there are no keys. A request may ask for less, not for more (default: *=0)",
     nullptr, 0, [](server_params & p, const std::string & text) { p.key_priority = text; }, "KEY=N,..."},
    {"--step-budget-ms", "PYLLAMA_STEP_BUDGET_MS",
     "milliseconds that a step may take while somebody decodes, so that a long prompt holds no answer up: its chunks "
     "are "
     "cut for it. 0: five times what a decode step takes, more when several prompts wait; -1: whole ubatches (default: "
     "0)",
     [](server_params & p, double v) { p.step_budget_ms = v; }, -1},
    {"--max-body-bytes", "PYLLAMA_MAX_BODY_BYTES", "largest request body in bytes (default: 33554432)",
     [](server_params & p, double v) { p.max_body_bytes = static_cast<int64_t>(v); }, 1},
    {"--shutdown-timeout", "PYLLAMA_SHUTDOWN_TIMEOUT",
     "seconds that running requests get to finish on SIGTERM (default: 10)",
     [](server_params & p, double v) { p.shutdown_timeout = v; }, 0},
    {"--write-timeout", "PYLLAMA_WRITE_TIMEOUT",
     "seconds a client may take nothing of its answer before it is dropped (default: 60)",
     [](server_params & p, double v) { p.write_timeout = v; }, 0.001},
    {"--pause-timeout", "PYLLAMA_PAUSE_TIMEOUT",
     "seconds after which a paused completion goes on by itself (default: 300)",
     [](server_params & p, double v) { p.pause_timeout = std::min(v, 1e9); }, 0.001},
    {"--max-paused", "PYLLAMA_MAX_PAUSED",
     "completions of one API key that may be paused at the same time (default: all slots but one, at least one)",
     [](server_params & p, double v) { p.max_paused = static_cast<int32_t>(std::min(v, 1e9)); }, 0},
    {"--reasoning-budget-soft", "PYLLAMA_REASONING_BUDGET_SOFT",
     "last tokens of a reasoning budget in which thinking is led to its end, preferably at the end of a sentence "
     "(default: 0, off)",
     [](server_params & p, double v) { p.reasoning_budget_soft = static_cast<int32_t>(std::min(v, 1e9)); }, 0},
    {"--stream-buffer", "PYLLAMA_STREAM_BUFFER", "bytes of a stream that are kept for its readers (default: 4194304)",
     [](server_params & p, double v) { p.stream_buffer_bytes = static_cast<int64_t>(v); }, 4096},
    {"--stream-retention", "PYLLAMA_STREAM_RETENTION",
     "seconds that the stream of a conversation (X-Conversation-Id) can be replayed after its end (default: 300)",
     [](server_params & p, double v) { p.stream_retention = std::min(v, 1e9); }, 0},
    {"--max-streams", "PYLLAMA_MAX_STREAMS",
     "conversations whose streams can be replayed; beyond it those that ended first go (default: 10000)",
     [](server_params & p, double v) { p.max_streams = static_cast<int32_t>(std::min(v, 1e9)); }, 1},
    {"--max-stream-bytes", "PYLLAMA_MAX_STREAM_BYTES",
     "memory of all streams together; when it is used up, those that ended first go, then the oldest bytes of "
     "running ones (default: 268435456)",
     [](server_params & p, double v) { p.max_stream_bytes = static_cast<int64_t>(v); }, 65536},
    {"--media-urls", "PYLLAMA_MEDIA_URLS",
     "images that requests name by http: or https: are fetched 0: not at all, 1: from public addresses, 2: from any, "
     "also within the server's own network (default: 1)",
     [](server_params & p, double v) { p.media_urls = static_cast<int32_t>(std::min(v, 2.0)); }, 0},
    {"--host-memory", "PYLLAMA_HOST_MEMORY",
     "MiB of host memory for streams, cached prompts (--cache-ram), checkpoints and parked requests together; cached "
     "prompts give way first, then checkpoints. 0: no limit (default: --cache-ram, or its own default where that is "
     "0, and --max-stream-bytes; no limit where --cache-ram has none)",
     [](server_params & p, double v) { p.host_memory_mib = static_cast<int64_t>(std::min(v, 1e9)); }, 0},
    {"--max-sockets", "PYLLAMA_MAX_SOCKETS", "open WebSockets of one API key (default: 256)",
     [](server_params & p, double v) { p.max_sockets = static_cast<int32_t>(std::min(v, 1e9)); }, 0},
    {"--max-socket-requests", "PYLLAMA_MAX_SOCKET_REQUESTS",
     "requests that may run on one WebSocket at the same time (default: 64)",
     [](server_params & p, double v) { p.max_socket_requests = static_cast<int32_t>(std::min(v, 1e9)); }, 1},
    {"--max-socket-message", "PYLLAMA_MAX_SOCKET_MESSAGE", "largest message on a WebSocket in bytes (default: 4194304)",
     [](server_params & p, double v) { p.max_socket_message = static_cast<int64_t>(v); }, 1024},
    {"--queue-timeout", "PYLLAMA_QUEUE_TIMEOUT",
     "seconds that a request on a WebSocket may wait for a slot (default: 0, no limit)",
     [](server_params & p, double v) { p.queue_timeout = v; }, 0},
};

const char * value_of(const own_flag & flag) {
    return flag.set_text != nullptr ? flag.text_value : "N";
}

const own_flag * find_own(std::string name) {
    for (char & c : name) {
        c = c == '_' ? '-' : c;
    }
    for (const auto & flag : own_flags) {
        if (name == flag.name) {
            return &flag;
        }
    }
    return nullptr;
}

void set_own(server_params & params, const own_flag & flag, const std::string & text, const std::string & source) {
    if (flag.set_text != nullptr) {
        flag.set_text(params, text);
        return;
    }
    char * end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value >= flag.least) || value > 1e15) {
        throw bad_request(source + ": \"" + text + "\" is not a number of at least " +
                              std::to_string(static_cast<int64_t>(flag.least)),
                          flag.name);
    }
    flag.set(params, value);
}

// llama-common prints an error, then how the flag is used; a caller wants the error, in one line.
std::string first_line(std::string text) {
    const size_t begin = text.find_first_not_of(" \n\r\t");
    if (begin == std::string::npos) {
        return "the flags could not be read";
    }
    text = text.substr(begin, text.find('\n', begin) - begin);
    const std::string prefix = "error: ";
    return text.compare(0, prefix.size(), prefix) == 0 ? text.substr(prefix.size()) : text;
}

// The default is quieter than llama-server's: what llama.cpp says of its graphs and buffers helps nobody who did
// not ask for it (-lv 4, -v).
void apply_verbosity(int verbosity) {
    common_log_set_verbosity_thold(verbosity > LOG_LEVEL_INFO ? verbosity : std::min(verbosity, LOG_LEVEL_WARN));
    set_log_level(verbosity >= LOG_LEVEL_DEBUG   ? log_level::debug
                  : verbosity >= LOG_LEVEL_TRACE ? log_level::info
                  : verbosity >= LOG_LEVEL_WARN  ? log_level::warn
                                                 : log_level::error);
}

void resolve_batches(common_params & params) {
    if (params.embedding && params.n_batch > params.n_ubatch) {
        std::fprintf(stderr, "embeddings need a batch to be one ubatch: lowering --batch-size %d to --ubatch-size %d\n",
                     params.n_batch, params.n_ubatch);
        params.n_batch = params.n_ubatch;
    }
}

void print_own_usage(int, char **) {
    std::printf("\n----- pyllama -----\n\n");
    for (const auto & flag : own_flags) {
        std::printf("%-40s%s\n%-40s(env: %s)\n", (std::string(flag.name) + " " + value_of(flag)).c_str(), flag.help, "",
                    flag.environment);
    }
    std::fflush(stdout);
}

}  // namespace

server_params parse_server_params(const std::vector<std::string> & args) {
    server_params params;
    for (const auto & flag : own_flags) {
        if (const char * value = std::getenv(flag.environment)) {
            set_own(params, flag, value, flag.environment);
        }
    }
    std::vector<std::string> rest = {"pyllama-server"};
    for (size_t i = 0; i < args.size(); ++i) {
        const own_flag * flag = find_own(args[i]);
        if (flag == nullptr) {
            rest.push_back(args[i]);
            continue;
        }
        if (++i == args.size()) {
            throw bad_request(std::string(flag->name) + " needs a value", flag->name);
        }
        set_own(params, *flag, args[i], flag->name);
    }
    std::vector<char *> argv;
    for (auto & arg : rest) {
        argv.push_back(arg.data());
    }
    argv.push_back(nullptr);

    // --rpc asks what the backends support before anything loads them.
    load_backends();
    take_cli_messages();
    bool parsed = false;
    try {
        parsed = common_params_parse(static_cast<int>(rest.size()), argv.data(), params.common, LLAMA_EXAMPLE_SERVER,
                                     print_own_usage);
    } catch (const cli_exit & exit) {
        const std::string message = take_cli_messages();
        if (exit.code == 0) {
            std::fflush(stdout);
            params.exit_code = 0;
            return params;
        }
        throw bad_request(first_line(message));
    }
    const std::string message = take_cli_messages();
    if (!parsed) {
        throw bad_request(first_line(message));
    }
    if (!message.empty()) {
        std::fputs(message.c_str(), stderr);  // warnings
    }
    resolve_parallel(params.common);
    resolve_batches(params.common);
    apply_verbosity(params.common.verbosity);
    return params;
}

std::vector<flag_facts> known_flags() {
    common_params params;
    std::vector<flag_facts> flags;
    for (const common_arg & each : common_params_parser_init(params, LLAMA_EXAMPLE_SERVER).options) {
        if (each.is_preset_only) {
            continue;
        }
        flag_facts facts;
        facts.names.assign(each.args.begin(), each.args.end());
        facts.negated.assign(each.args_neg.begin(), each.args_neg.end());
        std::stable_sort(facts.names.begin(), facts.names.end(), [](const std::string & a, const std::string & b) {
            return a.rfind("--", 0) == 0 && b.rfind("--", 0) != 0;
        });
        for (const char * hint : {each.value_hint, each.value_hint_2}) {
            if (hint != nullptr) {
                facts.values.emplace_back(hint);
            }
        }
        facts.environment = each.env == nullptr ? "" : each.env;
        facts.help = each.help;
        facts.group = each.is_sampling                                ? "sampling"
                      : each.is_spec                                  ? "speculative"
                      : each.examples.count(LLAMA_EXAMPLE_COMMON) > 0 ? "common"
                                                                      : "server";
        flags.push_back(std::move(facts));
    }
    for (const own_flag & each : own_flags) {
        flags.push_back({{each.name}, {}, {value_of(each)}, each.environment, each.help, "pyllama"});
    }
    return flags;
}

size_t host_memory_limit(const server_params & params) {
    if (params.host_memory_mib >= 0) {
        return static_cast<size_t>(params.host_memory_mib) << 20;
    }
    const int32_t cache_mib =
        params.common.cache_ram_mib != 0 ? params.common.cache_ram_mib : common_params().cache_ram_mib;
    return cache_mib < 0 ? 0 : (static_cast<size_t>(cache_mib) << 20) + static_cast<size_t>(params.max_stream_bytes);
}

void resolve_parallel(common_params & params) {
    if (params.n_parallel < 0) {
        params.n_parallel = 4;
        params.kv_unified = true;
    }
    const size_t most = std::min(llama_max_parallel_sequences(), prefix_cache::max_sequences);
    if (params.n_parallel > static_cast<int32_t>(most)) {
        throw bad_request("--parallel " + std::to_string(params.n_parallel) + " is more than the " +
                              std::to_string(most) + " sequences that one engine can hold",
                          "--parallel");
    }
    if (params.kv_unified_per_slot > 0 && params.n_ctx == 0 &&
        static_cast<uint32_t>(params.fit_params_min_ctx) != UINT32_MAX) {
        params.n_ctx = params.n_parallel * params.kv_unified_per_slot;
    }
}

}  // namespace pyllama
