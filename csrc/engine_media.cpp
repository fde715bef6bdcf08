// Media in prompts: which chunks are encoded when. The rows go into the cache by steps of their own (scheduler.h).
// Engine thread.

#include <algorithm>

#include "engine.h"
#include "media_encoder.h"

namespace pyllama {

// What a running prompt has of media behind its cached part goes to the encoder; text in front of it is decoded
// meanwhile.
void engine::encode_media() {
    if (!encoder_) {
        return;
    }
    for (slot & each : slots_) {
        if (!each.running || each.awaited.from != nullptr || each.running->rests()) {
            continue;
        }
        bool failed = false;
        for (const media_span & span : each.running->media()) {
            const bool wanted = span.end() > static_cast<int32_t>(each.cached.size());
            if (wanted && span.media->state() == media_state::raw) {
                encoder_->push(span.media);
            }
            failed = failed || (wanted && span.media->state() == media_state::failed);
        }
        if (failed) {
            fail(each, error(error_kind::engine, "an image of the prompt could not be encoded"));
        }
    }
}

bool engine::has_failed(const std::vector<media_span> & media) {
    return std::any_of(media.begin(), media.end(),
                       [](const media_span & span) { return span.media->state() == media_state::failed; });
}

// Whether all of it is encoded, or has failed; what is not even queued is queued.
bool engine::encoded(const std::vector<media_span> & media) {
    bool all = true;
    for (const media_span & span : media) {
        if (span.media->state() == media_state::raw) {
            encoder_->push(span.media);
        }
        all = all && (span.media->state() == media_state::ready || span.media->state() == media_state::failed);
    }
    return all;
}

// Rows that came into the cache behind its first n_before entries are not held twice. Once only: another slot may want
// them again.
void engine::forget_media(const slot & target, int32_t n_before) {
    for (const media_span & span : target.running->media()) {
        if (span.end() > n_before && span.end() <= static_cast<int32_t>(target.cached.size())) {
            span.media->forget();
        }
    }
}

// Throws when a prompt has media that no step can take.
void engine::check_media(const prepared_request & prepared) const {
    const auto check = [this](const std::vector<media_span> & media) {
        for (const media_span & span : media) {
            if (!span.media->causal() && span.media->n_rows() > n_ubatch_) {
                throw bad_request("an image of " + std::to_string(span.media->n_rows()) +
                                  " tokens is too large for this server: " + std::to_string(n_ubatch_) +
                                  " fit into one ubatch (--ubatch-size)");
            }
        }
    };
    check(prepared.media);
    for (const auto & media : prepared.input_media) {
        check(media);
    }
    for (const further_prompt & prompt : prepared.more_prompts) {
        check(prompt.media);
    }
}

}  // namespace pyllama
