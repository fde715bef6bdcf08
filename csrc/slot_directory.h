// The directory of saved slots (--slot-save-path): files by plain names, nothing outside of it, nothing that is no
// regular file. A file appears under its name when it is whole. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pyllama {

class slot_directory {
  public:
    explicit slot_directory(std::string path) : path_(std::move(path)) {}

    bool enabled() const { return !path_.empty(); }

    // Writes the parts one after the other. Returns their bytes. Throws error: invalid_request for the name, engine
    // when the disk does not take it.
    uint64_t write(const std::string & name, const std::vector<std::pair<const uint8_t *, size_t>> & parts) const;

    // Throws error(invalid_request): the name is bad, there is no such file, or it cannot be read.
    std::vector<uint8_t> read(const std::string & name) const;

    // Throws error(invalid_request) for a name that is no plain file name.
    static void check_name(const std::string & name);

  private:
    std::string path_;
};

}  // namespace pyllama
