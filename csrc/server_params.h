// The server's flags: llama-server's, parsed by llama-common, and ours. Any thread, one at a time: the parser
// sets llama-common's process-wide log verbosity.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common.h"

namespace pyllama {

struct server_params {
    common_params common;
    int32_t exit_code = -1;  // >= 0: a flag that prints and ends (--help, --version, ...) did its work

    bool share_prefixes = true;                     // of the unified KV cache, among slots
    bool share_within_key = false;                  // prompts are reused by requests of the same API key only
    int32_t max_queue = 512;                        // requests that may wait for a slot; more get 429
    double step_budget_ms = 0;                      // of a step while somebody decodes; 0 = measured, -1 = none
    std::string key_priority;                       // KEY=N,...: of an API key's requests in the queue
    int64_t max_body_bytes = 32 * 1024 * 1024;      // of an HTTP request
    double shutdown_timeout = 10;                   // seconds that running requests get on SIGTERM
    double write_timeout = 60;                      // seconds a client may take nothing of its answer
    double pause_timeout = 300;                     // seconds after which a paused completion goes on
    int32_t max_paused = -1;                        // completions of one API key; -1 = all slots but one
    int32_t reasoning_budget_soft = 0;              // last tokens of a reasoning budget that seek its end
    int64_t stream_buffer_bytes = 4 * 1024 * 1024;  // ring buffer of one stream
    double stream_retention = 300;                  // seconds that a conversation's stream is kept after its end
    int32_t max_streams = 10'000;                   // conversations whose streams are kept, running ones included
    int64_t host_memory_mib = -1;                   // of streams and --cache-ram's tier; 0 = any, -1 = their sum
    int64_t max_stream_bytes = 256 * 1024 * 1024;   // ring buffers of all streams together
    int32_t media_urls = 1;                         // what images may be fetched: 0 none, 1 public ones, 2 any
    int32_t max_sockets = 256;                      // open WebSockets of one API key
    int32_t max_socket_requests = 64;               // requests of one WebSocket at the same time
    int64_t max_socket_message = 4 * 1024 * 1024;   // bytes of one message on it
    double queue_timeout = 0;                       // seconds that a request on a WebSocket may be queued; 0 = any
};

// args: without the program's name. Environment variables are read as llama-server reads them. Throws
// error(invalid_request) with one line.
server_params parse_server_params(const std::vector<std::string> & args);

// One flag with all its names, the first one leading, as --help shows it.
struct flag_facts {
    std::vector<std::string> names;
    std::vector<std::string> negated;  // those that switch it off
    std::vector<std::string> values;   // what stands for each value it takes
    std::string environment;           // empty: no variable
    std::string help;
    std::string group;  // "common", "sampling", "speculative", "server" or "pyllama"
};

// Every flag that parse_server_params() knows, in the order of --help.
std::vector<flag_facts> known_flags();

// Bytes of host memory that streams, cached sequences, checkpoints and parked requests may take together; 0 = any.
size_t host_memory_limit(const server_params & params);

// Slots and KV mode as llama-server resolves them: -np unset means four slots on one unified KV cache.
void resolve_parallel(common_params & params);

}  // namespace pyllama
