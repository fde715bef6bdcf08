#include "scheduler.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <utility>

namespace pyllama {

namespace {

// Of so many steps in which prompts may share, one is left to the decoding slots: it shows what that takes by itself.
constexpr uint64_t decode_alone = 8;

// Where the memory splits a batch, the last tokens of a prompt that go with decode steps, one each: prompts whose
// lengths differ by so little take no passes for that.
constexpr int32_t tail = 2;

int32_t n_tokens_of(const std::vector<chunk> & plan) {
    int32_t n = 0;
    for (const chunk & part : plan) {
        n += part.end - part.begin;
    }
    return n;
}

// Tokens, or rows of media, that could be decoded besides one for each decoding slot.
int32_t n_pending_of(const std::vector<slot *> & decoding, const std::vector<slot *> & prefilling) {
    int32_t n = -static_cast<int32_t>(decoding.size());
    for (const auto * group : {&decoding, &prefilling}) {
        for (const slot * each : *group) {
            n += each->n_alike();
        }
    }
    return n;
}

chunk next_chunk(slot & target, int32_t size) {
    const auto begin = static_cast<int32_t>(target.cached.size());
    return {&target, begin, begin + size, size == target.n_pending()};
}

// Cells that a token of the first prompt is held against. A unified cache is looked through whole.
double n_cells_of(const std::vector<slot> & slots, const std::vector<slot *> & prefilling, bool own) {
    if (own) {
        return prefilling.empty() ? 0 : static_cast<double>(prefilling.front()->cached.size());
    }
    size_t n = 0;
    for (const slot & each : slots) {
        n += each.cached.size();
    }
    return static_cast<double>(n);
}

}  // namespace

void scheduler::sort_prefilling(std::vector<slot *> & prefilling, std::vector<slot *> & waiting) {
    std::vector<int64_t> left;  // by slot
    for (const auto * group : {&prefilling, &waiting}) {
        for (const slot * each : *group) {
            const auto id = static_cast<size_t>(each->id);
            passed_.resize(std::max(passed_.size(), id + 1));
            left.resize(passed_.size());
            if (passed_[id].assigned != each->assigned) {
                passed_[id] = {each->assigned, 0};
            }
            left[id] = each->n_pending() - passed_[id].n_tokens;
        }
    }
    // Whoever waits, waits for one that came before: the last ones first, so that it adds up along a chain.
    std::sort(waiting.begin(), waiting.end(), [](const slot * a, const slot * b) { return a->assigned > b->assigned; });
    for (const slot * each : waiting) {
        const auto leader = static_cast<size_t>(each->awaited.from->id);
        if (leader < left.size()) {
            left[leader] = std::min(left[leader], left[static_cast<size_t>(each->id)]);
        }
    }
    const auto rank = [&](const slot * each) {
        return std::make_pair(left[static_cast<size_t>(each->id)], each->assigned);
    };
    std::sort(prefilling.begin(), prefilling.end(), [&](const slot * a, const slot * b) { return rank(a) < rank(b); });
}

void scheduler::count_passed(const std::vector<slot *> & slots, const std::vector<chunk> & plan, int32_t n_prompt) {
    const auto planned = [&](const slot * each) {
        return std::any_of(plan.begin(), plan.end(), [&](const chunk & part) { return part.target == each; });
    };
    for (const slot * each : slots) {
        passed_[static_cast<size_t>(each->id)].n_tokens += planned(each) ? 0 : n_prompt;
    }
}

// more: tokens besides one for each slot.
void scheduler::add_decode(const std::vector<slot *> & decoding, int32_t more, std::vector<chunk> & plan) {
    const size_t fit = std::min(decoding.size(), static_cast<size_t>(limits_.n_ubatch));
    if (fit == decoding.size()) {
        first_decode_ = 0;
    }
    more = std::min(more, limits_.n_ubatch - static_cast<int32_t>(fit));
    for (size_t i = 0; i < fit; ++i) {
        slot * target = decoding[(first_decode_ + i) % decoding.size()];
        // Forced text comes with more; it takes what the others' single tokens leave.
        const int32_t n_forced = std::min(target->n_pending() - 1, more);
        more -= n_forced;
        const auto begin = static_cast<int32_t>(target->cached.size());
        plan.push_back({target, begin, begin + 1 + n_forced, n_forced == target->n_pending() - 1});
    }
    first_decode_ = fit < decoding.size() ? (first_decode_ + fit) % decoding.size() : 0;
}

// At most n_most tokens of a prompt.
int32_t scheduler::prefill_size(const slot & target, int32_t n_most) const {
    const int32_t pending = target.n_pending();
    const int32_t size = budget_.chunk_size(n_most, target.n_alike(), demand_);
    return size == pending && pending > limits_.n_last ? pending - limits_.n_last : size;
}

void scheduler::add_prefill(const std::vector<slot *> & prefilling, int32_t budget, std::vector<chunk> & plan) const {
    for (slot * target : prefilling) {
        if (budget <= 0) {
            return;
        }
        const int32_t size = prefill_size(*target, budget);
        plan.push_back(next_chunk(*target, size));
        budget -= size;
    }
}

// The same where the memory splits a batch: into one pass for each run of sequences that follow one another and have
// as many tokens. So all take the first prompt's size, and whoever is next to it goes before others.
void scheduler::add_prefill_runs(const std::vector<slot *> & prefilling, int32_t budget,
                                 std::vector<chunk> & plan) const {
    if (prefilling.empty() || budget <= 0) {
        return;
    }
    const int32_t size = prefill_size(*prefilling.front(), budget);
    size_t n_fit = static_cast<size_t>(budget / size);
    std::map<llama_seq_id, slot *> open;
    for (slot * each : prefilling) {
        if (each->n_alike() >= size) {
            open[each->sequence] = each;
        }
    }
    for (const slot * each : prefilling) {
        const auto here = open.find(each->sequence);
        if (n_fit == 0 || here == open.end()) {
            continue;
        }
        auto begin = here;
        while (begin != open.begin() && std::prev(begin)->first == begin->first - 1) {
            --begin;
        }
        // From the run's start, or as far up as it takes to reach the one whose turn it is.
        const auto n_before = static_cast<size_t>(std::distance(begin, here));
        std::advance(begin, static_cast<std::ptrdiff_t>(n_before < n_fit ? 0 : n_before - n_fit + 1));
        auto end = begin;
        do {
            plan.push_back(next_chunk(*end->second, size));
            --n_fit;
            ++end;
        } while (n_fit > 0 && end != open.end() && end->first == std::prev(end)->first + 1);
        open.erase(begin, end);
    }
}

// The prompts whose last tokens go with the decode steps: those that add no pass to them. They leave the list.
std::vector<slot *> scheduler::take_tails(const std::vector<slot *> & decoding,
                                          std::vector<slot *> & prefilling) const {
    if (prefilling.empty()) {
        return {};
    }
    std::set<llama_seq_id> busy;
    for (const slot * each : decoding) {
        busy.insert(each->sequence);
    }
    // A checkpoint is due in front of the last chunk, and a token by itself would be one more.
    const int32_t most = limits_.n_last > 0 ? 1 : tail;
    const auto joins = [&](const slot * each) {
        return each->n_pending() <= most && each->n_alike() == each->n_pending() &&
               (busy.count(each->sequence - 1) > 0 || busy.count(each->sequence + 1) > 0);
    };
    std::vector<slot *> tails;
    for (auto found = prefilling.end(); busy.size() < static_cast<size_t>(limits_.n_ubatch);) {
        found = std::find_if(prefilling.begin(), prefilling.end(), joins);
        if (found == prefilling.end()) {
            break;
        }
        busy.insert((*found)->sequence);
        tails.push_back(*found);
        prefilling.erase(found);
    }
    return tails;
}

void scheduler::add_tails(const std::vector<slot *> & tails, std::vector<chunk> & plan) const {
    if (tails.empty()) {
        return;
    }
    const auto n_free = static_cast<size_t>(std::max(0, limits_.n_ubatch - n_tokens_of(plan)));
    for (size_t i = 0; i < std::min(n_free, tails.size()); ++i) {
        plan.push_back(next_chunk(*tails[i], 1));
    }
    std::sort(plan.begin(), plan.end(),
              [](const chunk & a, const chunk & b) { return a.target->sequence < b.target->sequence; });
}

// Whether this step is of the first prompt's media. Else the prompts whose media comes next leave the list.
bool scheduler::media_turn(bool decoding, std::vector<slot *> & prefilling) {
    const auto is_text = [](const slot * each) { return each->next_media() == nullptr; };
    rows_last_ = !prefilling.empty() && !is_text(prefilling.front()) && !(decoding && rows_last_);
    if (!rows_last_) {
        prefilling.erase(std::stable_partition(prefilling.begin(), prefilling.end(), is_text), prefilling.end());
    }
    return rows_last_;
}

chunk scheduler::next_rows(slot & target, int32_t budget) const {
    const int32_t left = target.n_alike();
    const int32_t most = std::clamp(budget, 1, limits_.n_ubatch);
    return next_chunk(target, target.next_media()->media->causal() ? std::min(left, most) : left);
}

// The step in which a slot of this list under the set was served last; 0 when there is none.
uint64_t scheduler::last_served(const std::vector<slot *> & among, const lora_set & set) const {
    uint64_t last = 0;
    for (const slot * each : among) {
        if (same_set(each->running->params().lora, set)) {
            last = std::max(last, served_[static_cast<size_t>(each->id)]);
        }
    }
    return last;
}

// Leaves the slots of the LoRA set that was served longest ago. Where there were others, and decode and prefill take
// turns, says whether this step is the one or the other: what the set had longest ago.
std::optional<bool> scheduler::keep_one_class(std::vector<slot *> & decoding, std::vector<slot *> & prefilling) {
    const slot * chosen = nullptr;
    uint64_t longest_ago = 0;
    bool mixed = false;
    for (const auto * group : {&decoding, &prefilling}) {
        for (const slot * each : *group) {
            served_.resize(std::max(served_.size(), static_cast<size_t>(each->id) + 1));
        }
    }
    for (const auto * group : {&decoding, &prefilling}) {
        for (const slot * each : *group) {
            const lora_set & set = each->running->params().lora;
            const uint64_t served = std::max(last_served(decoding, set), last_served(prefilling, set));
            mixed = mixed || (chosen != nullptr && !same_set(set, chosen->running->params().lora));
            if (chosen == nullptr || served < longest_ago) {
                chosen = each;
                longest_ago = served;
            }
        }
    }
    if (!mixed) {
        return std::nullopt;
    }
    const lora_set set = chosen->running->params().lora;
    for (auto * group : {&decoding, &prefilling}) {
        group->erase(std::remove_if(group->begin(), group->end(),
                                    [&](const slot * each) { return !same_set(each->running->params().lora, set); }),
                     group->end());
    }
    if (!demand_.turns) {
        return std::nullopt;
    }
    return !decoding.empty() && (prefilling.empty() || last_served(decoding, set) <= last_served(prefilling, set));
}

std::vector<chunk> scheduler::next(std::vector<slot> & slots) {
    std::vector<slot *> decoding;
    std::vector<slot *> prefilling;
    std::vector<slot *> waiting;  // for what another one decodes
    for (slot & candidate : slots) {
        switch (candidate.state()) {
            case slot_state::decode: decoding.push_back(&candidate); break;
            case slot_state::prefill: prefilling.push_back(&candidate); break;
            case slot_state::waiting: waiting.push_back(&candidate); break;
            case slot_state::encoding:
            case slot_state::idle:
            case slot_state::reserved:
            case slot_state::paused: break;
        }
    }
    sort_prefilling(prefilling, waiting);
    demand_ = {static_cast<int32_t>(decoding.size()), static_cast<int32_t>(prefilling.size() + waiting.size()),
               n_pending_of(decoding, prefilling), n_cells_of(slots, prefilling, limits_.alternate), limits_.alternate};
    demand_.turns = limits_.alternate || budget_.better_apart(demand_);
    // Forced text of the only slot that has something to do holds nobody up.
    const bool alone = decoding.size() + prefilling.size() == 1;
    const int32_t more = alone ? limits_.n_ubatch : budget_.n_tokens(demand_);

    std::vector<chunk> plan;
    const std::vector<slot *> all_prefilling = prefilling;
    if (media_turn(!decoding.empty(), prefilling)) {
        plan.push_back(next_rows(*prefilling.front(), more));
        load_ = {0, n_tokens_of(plan), demand_.n_cells};
        count_passed(all_prefilling, plan, load_.n_prompt);
        count_passed(waiting, plan, load_.n_prompt);
        note_served(plan);
        return plan;
    }
    const std::optional<bool> oldest_decodes = limits_.lora ? keep_one_class(decoding, prefilling) : std::nullopt;
    const std::vector<slot *> tails = limits_.alternate ? take_tails(decoding, prefilling) : std::vector<slot *>();
    const bool decode_now =
        !decoding.empty() && (prefilling.empty() || oldest_decodes.value_or(!(demand_.turns && decoded_last_)));
    if (decode_now) {
        add_decode(decoding, more, plan);
        add_tails(tails, plan);
    }
    const bool mixed = decode_now && !prefilling.empty();
    // Who has waited for one step of prompts does not wait for another.
    const bool alone_now =
        mixed && (demand_.turns || waited_last_ || (budget_.enabled() && ++n_mixed_ % decode_alone == 0));
    const auto n_decode = static_cast<int32_t>(plan.size());
    const int32_t n_forced = n_tokens_of(plan) - n_decode;
    if (!alone_now) {
        const int32_t budget = std::min(more, limits_.n_ubatch - n_decode) - n_forced;
        limits_.alternate ? add_prefill_runs(prefilling, budget, plan) : add_prefill(prefilling, budget, plan);
    }
    load_ = {n_decode, n_tokens_of(plan) - n_decode, demand_.n_cells};
    count_passed(all_prefilling, plan, load_.n_prompt - n_forced);
    count_passed(waiting, plan, load_.n_prompt - n_forced);
    decoded_last_ = decode_now;
    waited_last_ = !decode_now && !decoding.empty();
    note_served(plan);
    return plan;
}

void scheduler::note_served(const std::vector<chunk> & plan) {
    if (!limits_.lora) {
        return;
    }
    ++n_steps_;
    for (const chunk & part : plan) {
        const auto id = static_cast<size_t>(part.target->id);
        served_.resize(std::max(served_.size(), id + 1));
        served_[id] = n_steps_;
    }
}

}  // namespace pyllama
