#include "slot_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "common.h"
#include "errors.h"
#include "random_id.h"

namespace pyllama {

namespace {

// One call of read() or write() takes no more on any system.
constexpr size_t most_at_once = size_t{1} << 30;

class descriptor {
  public:
    explicit descriptor(int number) : number_(number) {}
    ~descriptor() {
        if (number_ >= 0) {
            ::close(number_);
        }
    }
    descriptor(const descriptor &) = delete;
    descriptor & operator=(const descriptor &) = delete;
    int number() const { return number_; }
    bool open() const { return number_ >= 0; }

  private:
    int number_;
};

std::string reason() {
    return std::generic_category().message(errno);
}

descriptor open_directory(const std::string & path) {
    return descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

bool write_all(int file, const uint8_t * data, size_t size) {
    while (size > 0) {
        const ssize_t n = ::write(file, data, std::min(size, most_at_once));
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            data += n;
            size -= static_cast<size_t>(n);
        }
    }
    return true;
}

}  // namespace

void slot_directory::check_name(const std::string & name) {
    if (!fs_validate_filename(name, false)) {
        throw bad_request("Invalid filename: it must be a plain file name of 1 to 255 bytes", "filename");
    }
}

uint64_t slot_directory::write(const std::string & name,
                               const std::vector<std::pair<const uint8_t *, size_t>> & parts) const {
    check_name(name);
    const descriptor directory = open_directory(path_);
    const auto fail = [&](const char * what) {
        throw error(error_kind::engine, std::string("Unable to save slot: ") + what + ": " + reason());
    };
    if (!directory.open()) {
        fail("the directory cannot be opened");
    }
    struct stat there = {};
    if (::fstatat(directory.number(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(there.st_mode)) {
        throw bad_request("Invalid filename: what is there already is no regular file", "filename");
    }
    const std::string part = ".pyllama-" + random_id() + ".part";
    constexpr mode_t mode = S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH;
    const descriptor file(
        ::openat(directory.number(), part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!file.open()) {
        fail("the file cannot be made");
    }
    uint64_t n_written = 0;
    bool written = true;
    for (const auto & [data, size] : parts) {
        written = written && write_all(file.number(), data, size);
        n_written += size;
    }
    if (!written || ::fsync(file.number()) != 0 ||
        ::renameat(directory.number(), part.c_str(), directory.number(), name.c_str()) != 0) {
        const std::string why = reason();
        ::unlinkat(directory.number(), part.c_str(), 0);
        throw error(error_kind::engine, "Unable to save slot: the file cannot be written: " + why);
    }
    return n_written;
}

std::vector<uint8_t> slot_directory::read(const std::string & name) const {
    check_name(name);
    const auto fail = [](const std::string & why) {
        throw bad_request("Unable to restore slot: the file cannot be read: " + why, "filename");
    };
    const descriptor directory = open_directory(path_);
    if (!directory.open()) {
        fail(reason());
    }
    // Not blocking: opening a pipe would wait for its other end.
    const descriptor file(::openat(directory.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.open()) {
        fail(errno == ELOOP ? "it is a symbolic link" : reason());
    }
    struct stat there = {};
    if (::fstat(file.number(), &there) != 0 || !S_ISREG(there.st_mode)) {
        fail("it is no regular file");
    }
    std::vector<uint8_t> bytes(static_cast<size_t>(there.st_size));
    size_t n = 0;
    while (n < bytes.size()) {
        const ssize_t got = ::read(file.number(), bytes.data() + n, std::min(bytes.size() - n, most_at_once));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            fail(reason());
        }
        if (got == 0) {
            break;  // somebody cut it meanwhile
        }
        n += static_cast<size_t>(got);
    }
    bytes.resize(n);
    return bytes;
}

}  // namespace pyllama
