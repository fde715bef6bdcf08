// The checks of the C++ tests. A test file holds TEST() blocks and nothing else to register:
//
//   TEST(a_full_ring_drops_the_oldest_event) { CHECK_EQ(ring.first_event(), 1u); }
//
// A failed check throws, which ends its block; the executable goes on with the next one and exits with 1.
// Checks belong to the thread that runs the block; other threads hand their results to it. An argument
// of the executable runs only the blocks whose name contains it.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace pyllama_test {

struct check_failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Used by TEST().
bool add_test(const char * name, std::function<void()> body);

[[noreturn]] void fail_check(const char * file, int line, const std::string & what);

// Pseudo-random values for property tests: the same for the same seed, on every platform.
class random_source {
  public:
    explicit random_source(uint32_t seed) : engine_(seed) {}

    // Uniform enough in [0, n).
    uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_()) % n; }
    bool one_in(uint32_t n) { return below(n) == 0; }

  private:
    std::mt19937 engine_;
};

// A value as a failed check shows it.
template <typename T>
std::string shown(const T & value) {
    std::ostringstream out;
    if constexpr (std::is_enum_v<T>) {
        out << "enum value " << static_cast<long long>(value);
    } else if constexpr (std::is_same_v<T, bool>) {
        out << (value ? "true" : "false");
    } else if constexpr (std::is_convertible_v<T, std::string_view>) {
        const std::string_view text = value;
        constexpr size_t n_shown = 200;
        out << '"' << text.substr(0, n_shown) << '"';
        if (text.size() > n_shown) {
            out << "... (" << text.size() << " bytes)";
        }
    } else {
        out << value;
    }
    return out.str();
}

template <typename A, typename B>
void check_equal(const A & actual, const B & expected, const char * file, int line, const char * expression) {
    bool equal;
    if constexpr (std::is_convertible_v<A, std::string_view> && std::is_convertible_v<B, std::string_view>) {
        equal = std::string_view(actual) == std::string_view(expected);
    } else if constexpr (std::is_integral_v<A> && std::is_integral_v<B>) {
        // By value, whatever the signs.
        equal = (actual < A{}) == (expected < B{}) && static_cast<uint64_t>(actual) == static_cast<uint64_t>(expected);
    } else {
        equal = actual == expected;
    }
    if (!equal) {
        fail_check(file, line, std::string(expression) + " is " + shown(actual) + ", expected " + shown(expected));
    }
}

}  // namespace pyllama_test

#define TEST(name)                                                                                \
    static void test_##name();                                                                    \
    [[maybe_unused]] static const bool added_##name = pyllama_test::add_test(#name, test_##name); \
    static void test_##name()

#define CHECK(condition) ((condition) ? void() : pyllama_test::fail_check(__FILE__, __LINE__, "not true: " #condition))

#define CHECK_EQ(actual, expected) pyllama_test::check_equal((actual), (expected), __FILE__, __LINE__, #actual)

// Checks that an expression throws `type`; gives the message, for further checks.
#define CHECK_THROWS(type, expression)                                                     \
    [&]() -> std::string {                                                                 \
        try {                                                                              \
            static_cast<void>(expression);                                                 \
        } catch (const type & caught) {                                                    \
            return caught.what();                                                          \
        }                                                                                  \
        pyllama_test::fail_check(__FILE__, __LINE__, #expression " did not throw " #type); \
    }()
