#include "prefix_cache.h"

#include <algorithm>
#include <iterator>

namespace pyllama {

// The holders of a node hold its parent too. A node below the root has tokens and a holder.
struct prefix_cache::node {
    size_t begin = 0;  // position of the first token
    std::vector<llama_token> tokens;
    sequences holders;
    node * parent = nullptr;
    std::vector<std::unique_ptr<node>> children;

    size_t end() const { return begin + tokens.size(); }
};

struct prefix_cache::search {
    const std::vector<llama_token> & tokens;
    const std::function<int32_t(llama_seq_id)> & usable;
    match best;

    // Several children may begin alike: sequences that computed the same tokens each for itself.
    void visit(const node & at) {
        for (const auto & child : at.children) {
            const size_t most = std::min(child->tokens.size(), tokens.size() - child->begin);
            const auto first = child->tokens.begin();
            const auto last = first + static_cast<std::ptrdiff_t>(most);
            const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(child->begin);
            const auto n = static_cast<size_t>(std::mismatch(first, last, begin).first - first);
            if (n == 0) {
                continue;
            }
            take(*child, static_cast<int32_t>(child->begin + n));
            if (n == child->tokens.size()) {
                visit(*child);
            }
        }
    }

    void take(const node & at, int32_t n) {
        if (n <= best.n) {
            return;
        }
        for (size_t i = 0; i < max_sequences; ++i) {
            if (at.holders.test(i)) {
                const auto sequence = static_cast<llama_seq_id>(i);
                const int32_t n_usable = std::min(n, usable(sequence));
                best = n_usable > best.n ? match{sequence, n_usable} : best;
            }
        }
    }
};

prefix_cache::prefix_cache() : root_(std::make_unique<node>()), ends_(max_sequences, root_.get()) {}

prefix_cache::~prefix_cache() = default;

// Cuts a node in two; whoever ends in it ends in the lower half then.
void prefix_cache::split(node & at, size_t position) {
    auto lower = std::make_unique<node>();
    const auto cut = at.tokens.begin() + static_cast<std::ptrdiff_t>(position - at.begin);
    lower->begin = position;
    lower->tokens.assign(cut, at.tokens.end());
    lower->holders = at.holders;
    lower->parent = &at;
    lower->children = std::move(at.children);
    for (const auto & child : lower->children) {
        child->parent = lower.get();
    }
    std::replace(ends_.begin(), ends_.end(), &at, lower.get());
    at.tokens.erase(cut, at.tokens.end());
    at.children.clear();
    at.children.push_back(std::move(lower));
}

// Joins a node and its only child when the same sequences hold both.
void prefix_cache::absorb_only_child(node & at) {
    if (at.parent == nullptr || at.children.size() != 1 || at.children.front()->holders != at.holders) {
        return;
    }
    const std::unique_ptr<node> child = std::move(at.children.front());
    at.tokens.insert(at.tokens.end(), child->tokens.begin(), child->tokens.end());
    at.children = std::move(child->children);
    for (const auto & grandchild : at.children) {
        grandchild->parent = &at;
    }
    std::replace(ends_.begin(), ends_.end(), child.get(), &at);
}

void prefix_cache::append(llama_seq_id sequence, const llama_token * tokens, size_t n) {
    if (n == 0) {
        return;
    }
    node *& end = ends_[static_cast<size_t>(sequence)];
    if (end->parent == nullptr || end->holders.count() > 1) {
        auto own = std::make_unique<node>();
        own->begin = end->end();
        own->holders.set(static_cast<size_t>(sequence));
        own->parent = end;
        end->children.push_back(std::move(own));
        end = end->children.back().get();
    }
    end->tokens.insert(end->tokens.end(), tokens, tokens + n);
}

void prefix_cache::keep(llama_seq_id sequence, size_t n) {
    node * at = ends_[static_cast<size_t>(sequence)];
    while (at->parent != nullptr && at->begin >= n) {
        node * parent = at->parent;
        at->holders.reset(static_cast<size_t>(sequence));
        if (at->holders.none()) {
            auto & siblings = parent->children;
            siblings.erase(
                std::find_if(siblings.begin(), siblings.end(), [at](const auto & each) { return each.get() == at; }));
        } else {
            absorb_only_child(*at);
        }
        at = parent;
    }
    if (at->parent != nullptr && at->end() > n) {
        if (at->holders.count() == 1) {
            at->tokens.resize(n - at->begin);
        } else {
            split(*at, n);
            node & lower = *at->children.front();
            lower.holders.reset(static_cast<size_t>(sequence));
            absorb_only_child(lower);
        }
    }
    ends_[static_cast<size_t>(sequence)] = at;
}

void prefix_cache::share(llama_seq_id from, llama_seq_id to, size_t n) {
    node * at = ends_[static_cast<size_t>(from)];
    while (at->parent != nullptr && at->begin >= n) {
        at = at->parent;
    }
    if (at->parent != nullptr && at->end() > n) {
        split(*at, n);
    }
    ends_[static_cast<size_t>(to)] = at;
    for (; at->parent != nullptr; at = at->parent) {
        at->holders.set(static_cast<size_t>(to));
    }
}

prefix_cache::match prefix_cache::find(const std::vector<llama_token> & tokens,
                                       const std::function<int32_t(llama_seq_id)> & usable) const {
    search looking{tokens, usable, {}};
    looking.visit(*root_);
    return looking.best;
}

size_t prefix_cache::n_cells(const sequences & of) const {
    size_t n = 0;
    std::vector<const node *> left = {root_.get()};
    while (!left.empty()) {
        const node & at = *left.back();
        left.pop_back();
        n += at.tokens.size();
        for (const auto & child : at.children) {
            if ((child->holders & of).any()) {
                left.push_back(child.get());
            }
        }
    }
    return n;
}

size_t prefix_cache::n_held(llama_seq_id sequence, const sequences & others) const {
    const node * at = ends_[static_cast<size_t>(sequence)];
    sequences strangers = others;
    strangers.reset(static_cast<size_t>(sequence));
    while (at->parent != nullptr && (at->holders & strangers).none()) {
        at = at->parent;
    }
    return at->end();
}

size_t prefix_cache::size(llama_seq_id sequence) const {
    return ends_[static_cast<size_t>(sequence)]->end();
}

size_t prefix_cache::n_nodes() const {
    size_t n = 0;
    std::vector<const node *> left = {root_.get()};
    while (!left.empty()) {
        const node & at = *left.back();
        left.pop_back();
        n += at.children.size();
        for (const auto & child : at.children) {
            left.push_back(child.get());
        }
    }
    return n;
}

}  // namespace pyllama
