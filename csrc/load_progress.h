// How far a load is, shared by the thread that loads and those that watch it: no callback crosses threads.
#pragma once

#include <atomic>

#include "common.h"

namespace pyllama {

struct load_progress {
    std::atomic<float> value{0};    // 0 to 1: the share of the weights that is loaded
    std::atomic<bool> stop{false};  // any thread may set it: the load then fails at the next tensor

    // Reports to this object from now on, which must outlive the load.
    void attach(common_params & params) {
        params.load_progress_callback = [](float share, void * self) {
            auto & progress = *static_cast<load_progress *>(self);
            progress.value = share;
            return !progress.stop;
        };
        params.load_progress_callback_user_data = this;
    }
};

}  // namespace pyllama
