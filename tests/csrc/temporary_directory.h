// A directory of a test's own, gone with the object.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <string>

namespace pyllama_test {

class temporary_directory {
  public:
    temporary_directory()
        : path_(std::filesystem::temp_directory_path() / ("pyllama-slots-" + std::to_string(getpid()))) {
        std::filesystem::remove_all(path_);
        std::filesystem::create_directory(path_);
    }
    ~temporary_directory() { std::filesystem::remove_all(path_); }
    temporary_directory(const temporary_directory &) = delete;
    temporary_directory & operator=(const temporary_directory &) = delete;

    std::string text() const { return path_.string() + "/"; }
    std::filesystem::path operator/(const std::string & name) const { return path_ / name; }
    size_t n_files() const {
        return static_cast<size_t>(
            std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
    }

  private:
    std::filesystem::path path_;
};

}  // namespace pyllama_test
