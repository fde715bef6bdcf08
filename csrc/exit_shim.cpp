#define PYLLAMA_NO_EXIT_SHIM_MACROS
#include "exit_shim.h"

#include <cstdarg>
#include <vector>

namespace pyllama {

namespace {

thread_local std::string messages;

}  // namespace

void note_cli_message(std::FILE * stream, const char * format, ...) {
    va_list args;
    va_start(args, format);
    if (stream != stderr) {
        std::vfprintf(stream, format, args);
    } else {
        va_list measure;
        va_copy(measure, args);
        const int length = std::vsnprintf(nullptr, 0, format, measure);
        va_end(measure);
        if (length > 0) {
            std::vector<char> text(static_cast<size_t>(length) + 1);
            std::vsnprintf(text.data(), text.size(), format, args);
            messages.append(text.data(), static_cast<size_t>(length));
        }
    }
    va_end(args);
}

std::string take_cli_messages() {
    std::string taken;
    taken.swap(messages);
    return taken;
}

}  // namespace pyllama
