// Bytes of files: written in order, read within bounds, and summed up. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace pyllama {

// FNV-1a over words of eight bytes.
class checksum {
  public:
    void add(const void * data, size_t size) {
        const auto * bytes = static_cast<const uint8_t *>(data);
        for (; size >= 8; bytes += 8, size -= 8) {
            uint64_t word = 0;
            std::memcpy(&word, bytes, 8);
            mix(word);
        }
        uint64_t rest = size;
        for (size_t i = 0; i < size; ++i) {
            rest = rest << 8 | bytes[i];
        }
        mix(rest);
    }
    uint64_t value() const { return value_; }

  private:
    void mix(uint64_t word) {
        value_ = (value_ ^ word) * 0x100000001b3;
        value_ ^= value_ >> 29;
    }
    uint64_t value_ = 0xcbf29ce484222325;
};

inline uint64_t checksum_of(const void * data, size_t size) {
    checksum sum;
    sum.add(data, size);
    return sum.value();
}

class byte_writer {
  public:
    template <typename T>
    void put(const T & value) {
        put_bytes(&value, sizeof(value));
    }
    void put_bytes(const void * data, size_t size) {
        const auto * begin = static_cast<const uint8_t *>(data);
        bytes_.insert(bytes_.end(), begin, begin + size);
    }
    const std::vector<uint8_t> & bytes() const { return bytes_; }
    std::vector<uint8_t> take() { return std::move(bytes_); }

  private:
    std::vector<uint8_t> bytes_;
};

// Thrown by a reader that is asked for more than there is.
struct end_of_file {};

class byte_reader {
  public:
    byte_reader(const std::vector<uint8_t> & bytes, size_t begin, size_t end) : bytes_(bytes), at_(begin), end_(end) {}

    template <typename T>
    T get() {
        T value;
        std::memcpy(&value, skip(sizeof(T)), sizeof(T));
        return value;
    }
    const uint8_t * skip(uint64_t n) {
        if (n > end_ - at_) {
            throw end_of_file();
        }
        const uint8_t * data = bytes_.data() + at_;
        at_ += n;
        return data;
    }
    template <typename T>
    std::vector<T> list(uint64_t n) {
        if (n > (end_ - at_) / sizeof(T)) {
            throw end_of_file();
        }
        std::vector<T> values(n);
        if (n > 0) {
            std::memcpy(values.data(), skip(n * sizeof(T)), n * sizeof(T));
        }
        return values;
    }
    size_t at() const { return at_; }

  private:
    const std::vector<uint8_t> & bytes_;
    size_t at_;
    size_t end_;
};

}  // namespace pyllama
