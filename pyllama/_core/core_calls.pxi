# The calls into csrc/ that can throw. They are declared here, and not in core.pxd, because raise_captured must
# be in scope.

from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport make_shared, shared_ptr
from libcpp.optional cimport optional
from libcpp.string cimport string
from libcpp.string_view cimport string_view
from libcpp.utility cimport pair
from libcpp.vector cimport vector
from cython.operator cimport dereference as deref

cdef extern from "server_params.h" namespace "pyllama" nogil:
    cdef cppclass c_server_params "pyllama::server_params":
        int exit_code

    c_server_params c_parse_server_params "pyllama::parse_server_params"(const vector[string] & args) \
        except +raise_captured

cdef extern from "params_json.h" namespace "pyllama" nogil:
    string c_params_json "pyllama::params_json"(const c_server_params & params) except +raise_captured
    string c_hub_json "pyllama::hub_json"() except +raise_captured
    string c_flags_json "pyllama::flags_json"() except +raise_captured
    void c_set_model_path "pyllama::set_model_path"(c_server_params & params, const string & path)
    void c_set_projector_path "pyllama::set_projector_path"(c_server_params & params, const string & path)

cdef extern from "waker.h" namespace "pyllama" nogil:
    cdef cppclass c_waker "pyllama::waker":
        c_waker() except +raise_captured
        int fd() const
        vector[uint64_t] drain() except +raise_captured
        cbool wait() except +raise_captured
        void close()

cdef extern from "ring.h" namespace "pyllama" nogil:
    cdef cppclass c_ring_slice "pyllama::ring_slice":
        size_t n_bytes() const
        void copy_to(char * target) const
        uint64_t first_event
        cbool starts_event
        vector[uint64_t] event_ends

cdef extern from "stream.h" namespace "pyllama" nogil:
    cdef enum class c_session_state "pyllama::session_state":
        accepted
        started
        finished

    cdef cppclass c_read_result "pyllama::read_result":
        c_ring_slice slice
        uint64_t next_offset
        cbool finished
        cbool lost
        uint64_t first_offset
        uint64_t end_offset

    cdef cppclass c_stream_session "pyllama::stream_session":
        c_session_state state() const
        c_read_result read(uint64_t offset, size_t max_bytes, cbool with_events) except +raise_captured
        uint64_t end_offset() const
        optional[uint64_t] offset_after(uint64_t id) const
        void keep(size_t n_extra)
        cbool evicted() const
        void subscribe(shared_ptr[c_waker] target, uint64_t key) except +raise_captured
        void unsubscribe(const c_waker * target, uint64_t key)

cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass c_atomic "std::atomic" [T]:
        T load() const
        void store(T value)

cdef extern from "load_progress.h" namespace "pyllama" nogil:
    cdef cppclass c_load_progress "pyllama::load_progress":
        c_atomic[float] value
        c_atomic[cbool] stop

cdef extern from "model.h" namespace "pyllama" nogil:
    cdef cppclass c_model "pyllama::model":
        pass

cdef extern from "prompt.h" namespace "pyllama" nogil:
    cdef enum class c_dialect "pyllama::dialect":
        native
        openai
        responses
        anthropic
        deltas
        paddler

    cdef cppclass c_prepared_request "pyllama::prepared_request":
        string id
        cbool stream
        string receipt
        int32_t sse_ping_interval
        vector[int32_t] tokens
        vector[vector[int32_t]] inputs

cdef extern from "predictions.h" namespace "pyllama" nogil:
    cdef cppclass c_prediction_instance "pyllama::prediction_instance":
        string format
        string body
        string problem

    vector[c_prediction_instance] c_split_predictions "pyllama::split_predictions"(
        string_view body) except +raise_captured

cdef extern from "json_members.h" namespace "pyllama" nogil:
    vector[pair[string, string]] c_json_members "pyllama::json_members"(
        string_view text, size_t n_most) except +raise_captured

cdef extern from "text_requests.h" namespace "pyllama" nogil:
    cdef enum class c_text_request "pyllama::text_request":
        tokenize
        detokenize
        apply_template
        count_tokens
        count_responses_tokens
        count_anthropic_tokens

cdef extern from "engine.h" namespace "pyllama" nogil:
    cdef cppclass c_generation_control "pyllama::generation_control":
        pass

    cdef cppclass c_submitted "pyllama::submitted":
        string id
        shared_ptr[c_stream_session] session
        shared_ptr[c_generation_control] control
        vector[shared_ptr[c_generation_control]] choices

    cdef cppclass c_engine "pyllama::engine":
        void cancel(const shared_ptr[c_generation_control] & control)
        void shutdown(const string & message) except +raise_captured
        void close() except +raise_captured
        int n_ctx_slot() const
        int n_slots() const
        cbool sleeping() const

cdef extern from "control_facade.h" namespace "pyllama" nogil:
    cdef cppclass c_control_request "pyllama::control_request":
        pass

    cdef cppclass c_control_ticket "pyllama::control_ticket":
        pass

    shared_ptr[c_control_request] c_read_control "pyllama::read_control"(
        const string & body, cbool in_process) except +raise_captured
    string c_completion_id "pyllama::completion_id"(const c_control_request & request)
    cbool c_takes_time "pyllama::takes_time"(const c_control_request & request)
    shared_ptr[c_control_ticket] c_post_control "pyllama::post_control"(
        c_engine & target, const c_submitted & handle, const c_control_request & request,
        const shared_ptr[c_waker] & wakes, uint64_t key) except +raise_captured
    string c_control_answer "pyllama::control_answer_of"(
        const c_control_ticket & ticket, cbool in_process) except +raise_captured

cdef extern from "engine_facade.h" namespace "pyllama" nogil:
    shared_ptr[c_engine] c_make_engine "pyllama::make_engine"(
        const c_server_params & params, c_load_progress & progress) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare "pyllama::prepare"(
        c_engine & target, const string & body, c_dialect which) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare_raw "pyllama::prepare_raw"(
        c_engine & target, const string & body, c_dialect which) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare_fill "pyllama::prepare_fill"(
        c_engine & target, const string & body) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare_embeddings "pyllama::prepare_embeddings"(
        c_engine & target, const string & body, c_dialect which) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare_decisions "pyllama::prepare_decisions"(
        c_engine & target, const string & body) except +raise_captured
    shared_ptr[c_prepared_request] c_prepare_ranks "pyllama::prepare_ranks"(
        c_engine & target, const string & body) except +raise_captured
    string c_answer_text "pyllama::answer_text"(
        c_engine & target, c_text_request kind, const string & body) except +raise_captured
    string c_content_type "pyllama::content_type"(const c_prepared_request & prepared)
    c_submitted c_submit "pyllama::submit"(
        c_engine & target, c_prepared_request & prepared, const string & owner,
        optional[int32_t] priority) except +raise_captured
    int32_t c_queue_position "pyllama::queue_position"(const c_submitted & handle)
    string c_metrics_json "pyllama::metrics_json"(c_engine & target) except +raise_captured
    string c_histograms_json "pyllama::histograms_json"(c_engine & target) except +raise_captured
    string c_slots_json "pyllama::slots_json"(c_engine & target) except +raise_captured
    string c_props_json "pyllama::props_json"(c_engine & target) except +raise_captured
    string c_model_info_json "pyllama::model_info_json"(c_engine & target) except +raise_captured
    string c_lora_adapters_json "pyllama::lora_adapters_json"(c_engine & target) except +raise_captured
    void c_set_lora_adapters "pyllama::set_lora_adapters"(
        c_engine & target, const string & body) except +raise_captured

    cdef enum class c_slot_action "pyllama::slot_action":
        save
        restore
        erase

    string c_slot_action_json "pyllama::slot_action_json"(
        c_engine & target, int32_t id, c_slot_action action, const string & body) except +raise_captured
    void c_raise_failure "pyllama::raise_failure"(const c_stream_session & session) except +raise_captured
