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
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
        return;
    }
    const bool was_empty = dirty_.empty();
    dirty_.insert(key);
    if (was_empty) {
        signal();
    }
}

std::vector<uint64_t> waker::drain() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<uint64_t> taken(dirty_.begin(), dirty_.end());
    // One signal at most is outstanding, so one read clears it. After close() it stays: a thread on its way
    // into wait()'s poll must find it.
    if (!dirty_.empty() && !closed_) {
        uint64_t ignored;
        while (read(read_fd_, &ignored, sizeof(ignored)) < 0 && errno == EINTR) {
        }
    }
    dirty_.clear();
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
        }
        // A signal between the check and here makes the poll return at once. EINTR: check again.
        pollfd watched{read_fd_, POLLIN, 0};
        poll(&watched, 1, -1);
    }
}

void waker::close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_) {
        closed_ = true;
        signal();
    }
}

// Makes the descriptor readable; the caller holds the mutex. Never blocks: a descriptor that is full (EAGAIN)
// is readable already.
void waker::signal() {
    const uint64_t one = 1;
    while (write(write_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

}  // namespace pyllama
