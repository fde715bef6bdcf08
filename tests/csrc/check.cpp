#include "check.h"

#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

namespace pyllama_test {

namespace {

struct test_case {
    const char * name;
    std::function<void()> body;
};

// A function's static: constructed by the first TEST(), whatever the order of the files.
std::vector<test_case> & test_cases() {
    static std::vector<test_case> cases;
    return cases;
}

bool passes(const test_case & test) {
    try {
        test.body();
        return true;
    } catch (const check_failed & failure) {
        std::printf("FAILED %s\n  %s\n", test.name, failure.what());
    } catch (const std::exception & e) {
        std::printf("FAILED %s\n  exception: %s\n", test.name, e.what());
    } catch (...) {
        std::printf("FAILED %s\n  unknown exception\n", test.name);
    }
    return false;
}

}  // namespace

bool add_test(const char * name, std::function<void()> body) {
    test_cases().push_back({name, std::move(body)});
    return true;
}

void fail_check(const char * file, int line, const std::string & what) {
    throw check_failed(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

}  // namespace pyllama_test

int main(int argc, char ** argv) {
    using namespace pyllama_test;

    const std::string_view wanted = argc > 1 ? argv[1] : "";
    int n_run = 0;
    int n_failed = 0;
    for (const test_case & test : test_cases()) {
        if (std::string_view(test.name).find(wanted) == std::string_view::npos) {
            continue;
        }
        n_run++;
        n_failed += passes(test) ? 0 : 1;
        std::fflush(stdout);
    }
    std::printf("%d run, %d failed\n", n_run, n_failed);
    return n_failed == 0 && n_run > 0 ? 0 : 1;
}
