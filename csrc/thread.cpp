#include "thread.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "errors.h"

namespace pyllama {

namespace {

struct start_arguments {
    thread_options options;
    std::function<void()> body;
};

void set_name(const std::string & name) {
#if defined(__linux__)
    constexpr size_t n_name_max = 15;
    pthread_setname_np(pthread_self(), name.substr(0, n_name_max).c_str());
#elif defined(__APPLE__)
    pthread_setname_np(name.c_str());
#else
    static_cast<void>(name);
#endif
}

// noexcept: an exception has nobody to go to, and unwinding through pthread's frames is undefined.
void * run_body(void * raw) noexcept {
    const std::unique_ptr<start_arguments> arguments(static_cast<start_arguments *>(raw));
    set_name(arguments->options.name);
    if (arguments->options.slice_us != 0) {
        set_time_slice(arguments->options.slice_us);
    }
    arguments->body();
    return nullptr;
}

size_t round_stack(size_t n_bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    n_bytes = std::max(n_bytes, static_cast<size_t>(PTHREAD_STACK_MIN));
    return (n_bytes + page - 1) / page * page;
}

// Everything but faults, which belong to the thread that made them, and the profiler's tick.
sigset_t asynchronous_signals() {
    sigset_t set;
    sigfillset(&set);
    for (const int kept : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) {
        sigdelset(&set, kept);
    }
    return set;
}

}  // namespace

#if defined(__linux__) && defined(SYS_sched_setattr)

namespace {

// The kernel's struct sched_attr in its first version; not every libc declares it.
struct scheduling_attributes {
    uint32_t size = sizeof(scheduling_attributes);
    uint32_t policy = 0;  // SCHED_OTHER
    uint64_t flags = 0;
    int32_t nice = 0;
    uint32_t priority = 0;
    uint64_t runtime_ns = 0;  // the time slice of a thread without real-time policy
    uint64_t deadline_ns = 0;
    uint64_t period_ns = 0;
};
static_assert(sizeof(scheduling_attributes) == 48);

constexpr uint64_t reset_on_fork = 1;

}  // namespace

void set_time_slice(uint32_t microseconds) {
    scheduling_attributes attributes;
    attributes.flags = reset_on_fork;
    // On Linux PRIO_PROCESS with 0 is the calling thread.
    attributes.nice = getpriority(PRIO_PROCESS, 0);
    attributes.runtime_ns = uint64_t{microseconds} * 1000;
    // A refusal (a sandbox, an old kernel) costs latency and nothing else.
    syscall(SYS_sched_setattr, 0, &attributes, 0u);
}

#else

void set_time_slice(uint32_t) {}

#endif

struct named_thread::handle {
    pthread_t id;
};

named_thread::named_thread(const thread_options & options, std::function<void()> body)
    : handle_(std::make_unique<handle>()) {
    auto arguments = std::make_unique<start_arguments>(start_arguments{options, std::move(body)});

    pthread_attr_t attributes;
    int status = pthread_attr_init(&attributes);
    if (status == 0) {
        if (options.stack_bytes != 0) {
            status = pthread_attr_setstacksize(&attributes, round_stack(options.stack_bytes));
        }
        if (status == 0) {
            const sigset_t blocked = asynchronous_signals();
            sigset_t previous;
            pthread_sigmask(SIG_BLOCK, &blocked, &previous);  // a new thread inherits the mask
            status = pthread_create(&handle_->id, &attributes, run_body, arguments.get());
            pthread_sigmask(SIG_SETMASK, &previous, nullptr);
        }
        pthread_attr_destroy(&attributes);
    }
    if (status != 0) {
        handle_.reset();
        throw error(error_kind::engine, "cannot start the thread '" + options.name + "': " + std::strerror(status));
    }
    static_cast<void>(arguments.release());  // the thread's own by now
}

named_thread::named_thread() = default;

named_thread::~named_thread() {
    join();
}

named_thread::named_thread(named_thread && other) noexcept = default;

named_thread & named_thread::operator=(named_thread && other) noexcept {
    if (this != &other) {
        join();
        handle_ = std::move(other.handle_);
    }
    return *this;
}

bool named_thread::joinable() const {
    return handle_ != nullptr;
}

void named_thread::join() {
    if (handle_) {
        pthread_join(handle_->id, nullptr);
        handle_.reset();
    }
}

bool named_thread::is_current() const {
    return handle_ && pthread_equal(handle_->id, pthread_self()) != 0;
}

}  // namespace pyllama
