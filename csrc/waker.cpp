#include "waker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

// PYLLAMA_WAKER_PIPE: the pipe on Linux as well, for the test of it.
#if defined(__linux__) && !defined(PYLLAMA_WAKER_PIPE)
#define PYLLAMA_WAKER_EVENTFD
#include <sys/eventfd.h>
#endif

#include <cstring>
#include <utility>

#include "errors.h"

namespace pyllama {

namespace {

error no_descriptor() {
    return {error_kind::engine, std::string("no descriptor for the wake-up: ") + std::strerror(errno)};
}

#ifndef PYLLAMA_WAKER_EVENTFD
bool set_flags(int fd) {
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, fcntl(fd, F_GETFD) | FD_CLOEXEC) == 0;
}
#endif

}  // namespace

waker::waker() {
#ifdef PYLLAMA_WAKER_EVENTFD
    read_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    write_fd_ = read_fd_;
    if (read_fd_ < 0) {
        throw no_descriptor();
    }
#else
    int fds[2];
    if (pipe(fds) != 0) {
        throw no_descriptor();
    }
    if (!set_flags(fds[0]) || !set_flags(fds[1])) {
        error failure = no_descriptor();
        ::close(fds[0]);
        ::close(fds[1]);
        throw failure;
    }
    read_fd_ = fds[0];
    write_fd_ = fds[1];
#endif
}

waker::~waker() {
    if (write_fd_ != read_fd_) {
        ::close(write_fd_);
    }
    ::close(read_fd_);
}

int waker::fd() const {
    return read_fd_;
}

void waker::mark(uint64_t key) {
    if (add(key)) {
        signal();
    }
}

bool waker::add(uint64_t key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
        return false;
    }
    const bool was_empty = dirty_.empty();
    dirty_.insert(key);
    return was_empty;
}

std::vector<uint64_t> waker::drain() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<uint64_t> taken(dirty_.begin(), dirty_.end());
    dirty_.clear();
    // Signals come after what they are for, so one may be here without it, or still on its way. After close() it
    // stays: a thread on its way into wait()'s poll must find it.
    if (!closed_) {
        clear();
    }
    return taken;
}

bool waker::wait() {
    for (;;) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (closed_) {
                return false;
            }
            if (!dirty_.empty()) {
                return true;
            }
            clear();  // a signal of what was drained before it came
        }
        // A signal between the check and here makes the poll return at once. EINTR: check again.
        pollfd watched{read_fd_, POLLIN, 0};
        poll(&watched, 1, -1);
    }
}

void waker::close() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (closed_) {
            return;
        }
        closed_ = true;
    }
    signal();
}

// Makes the descriptor unreadable; the caller holds the mutex. A pipe may hold several signals.
void waker::clear() {
    uint64_t ignored[8];
    for (ssize_t n = 0; (n = read(read_fd_, ignored, sizeof(ignored))) != 0;) {
        if (n < 0 ? errno != EINTR : n < static_cast<ssize_t>(sizeof(ignored))) {
            return;
        }
    }
}

// Makes the descriptor readable. Never blocks: a descriptor that is full (EAGAIN) is readable already.
void waker::signal() {
    const uint64_t one = 1;
    while (write(write_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

}  // namespace pyllama
