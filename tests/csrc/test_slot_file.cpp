// Slots in files: they come back as they were, names lead nowhere else, and no file of any kind harms the server.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"
#include "slot_directory.h"
#include "slot_file.h"
#include "temporary_directory.h"

using namespace pyllama;
using namespace pyllama_test;
namespace fs = std::filesystem;

namespace {

std::vector<uint8_t> read_bytes(const fs::path & path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path & path, const std::vector<uint8_t> & bytes) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

server_params saving(const temporary_directory & directory, int n_slots = 2, bool unified = true) {
    server_params params = engine_params(n_slots, 512 * n_slots, unified);
    params.common.slot_save_path = directory.text();
    return params;
}

prepared_request in_slot(const std::vector<llama_token> & tokens, int n, int id_slot) {
    auto made = request(tokens, n);
    made.params.id_slot = id_slot;
    return made;
}

saved_sequence small_sequence() {
    saved_sequence saved;
    saved.tokens = {5, 6, 7};
    saved.lora = std::make_shared<const std::vector<float>>(std::vector<float>{0.5f, 1});
    saved.n_exact = 2;
    for (int i = 0; i < 100; ++i) {
        saved.state.push_back(static_cast<uint8_t>(i * 7));
    }
    saved.checkpoints = {{2, 0, 1, shared_bytes({1, 2, 3})}, {3, 1, 2, shared_bytes({4, 5})}};
    return saved;
}

bool equal(const shared_bytes & a, const shared_bytes & b) {
    return std::equal(a.data(), a.data() + a.size(), b.data(), b.data() + b.size());
}

slot_file_limits small_limits() {
    slot_file_limits limits;
    limits.identity = 17;
    limits.n_ctx = 16;
    limits.n_vocab = 100;
    limits.n_adapters = 2;
    limits.n_checkpoints = 8;
    return limits;
}

std::vector<uint8_t> file_of(const saved_sequence & saved, uint64_t identity = 17) {
    slot_file_parts parts = pack_slot_file(saved, identity);
    std::vector<uint8_t> file = parts.head;
    file.insert(file.end(), saved.state.begin() + state_head, saved.state.end());
    file.insert(file.end(), parts.tail.begin(), parts.tail.end());
    return file;
}

// What a llama-server would have written: without our proof.
std::vector<uint8_t> without_proof(const std::vector<uint8_t> & file, const slot_file_limits & limits) {
    const slot_file_contents contents = parse_slot_file(file, limits);
    return {file.begin(), file.begin() + static_cast<std::ptrdiff_t>(contents.state_begin + contents.state_size)};
}

std::vector<uint8_t> state_in(const std::vector<uint8_t> & file, const slot_file_contents & contents) {
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(contents.state_begin);
    return {begin, begin + static_cast<std::ptrdiff_t>(contents.state_size)};
}

slot_file_limits limits_of(const engine & target, const server_params &) {
    slot_file_limits limits;
    limits.identity = state_identity(*demo_model());
    limits.n_ctx = target.n_ctx_slot();
    limits.n_vocab = demo_model()->n_vocab();
    limits.plain_attention = true;
    return limits;
}

}  // namespace

TEST(a_file_gives_back_what_was_packed) {
    const saved_sequence saved = small_sequence();
    const std::vector<uint8_t> file = file_of(saved);
    const slot_file_contents contents = parse_slot_file(file, small_limits());
    CHECK(contents.tokens == saved.tokens);
    CHECK(same_set(contents.lora, saved.lora));
    CHECK_EQ(contents.n_exact, 2);
    CHECK_EQ(contents.state_size, saved.state.size() - state_head);
    CHECK_EQ(contents.n_read, file.size());
    CHECK_EQ(contents.checkpoints.size(), 2u);
    CHECK(equal(contents.checkpoints[1].data, saved.checkpoints[1].data));
}

TEST(a_cut_file_is_refused_or_loses_its_checkpoints) {
    const std::vector<uint8_t> file = file_of(small_sequence());
    const size_t n_needed = file_of([] {
                                saved_sequence saved = small_sequence();
                                saved.checkpoints.clear();
                                return saved;
                            }())
                                .size() +
                            2 * sizeof(uint64_t);  // the checkpoints' checksums
    for (size_t n = 0; n < file.size(); ++n) {
        const std::vector<uint8_t> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(n));
        if (n < n_needed) {
            CHECK_THROWS(error, parse_slot_file(cut, small_limits()));
        } else {
            CHECK(parse_slot_file(cut, small_limits()).checkpoints.empty());
        }
    }
}

TEST(a_flipped_bit_is_found) {
    const std::vector<uint8_t> file = file_of(small_sequence());
    const slot_file_contents whole = parse_slot_file(file, small_limits());
    for (size_t i = 0; i < file.size() * 8; ++i) {
        std::vector<uint8_t> flipped = file;
        flipped[i / 8] = static_cast<uint8_t>(flipped[i / 8] ^ (1u << i % 8));
        try {
            const slot_file_contents contents = parse_slot_file(flipped, small_limits());
            // Only the list of checkpoints has parts without a checksum, and what is in them has one.
            CHECK(contents.tokens == whole.tokens);
            CHECK(state_in(flipped, contents) == state_in(file, whole));
            CHECK(contents.checkpoints.size() <= 2);
            for (const checkpoint & each : contents.checkpoints) {
                CHECK(equal(each.data, whole.checkpoints[0].data) || equal(each.data, whole.checkpoints[1].data));
            }
        } catch (const error & refused) {
            CHECK(refused.kind == error_kind::invalid_request);
        }
    }
}

TEST(files_of_others_are_refused) {
    const std::vector<uint8_t> file = file_of(small_sequence());
    slot_file_limits limits = small_limits();
    limits.identity = 18;
    CHECK_THROWS(error, parse_slot_file(file, limits));
    limits = small_limits();
    limits.n_adapters = 1;
    CHECK_THROWS(error, parse_slot_file(file, limits));
    limits = small_limits();
    limits.n_ctx = 2;
    CHECK_THROWS(error, parse_slot_file(file, limits));
    limits = small_limits();
    limits.n_vocab = 7;
    CHECK_THROWS(error, parse_slot_file(file, limits));
    CHECK_THROWS(error, parse_slot_file({}, small_limits()));
    CHECK_THROWS(error, parse_slot_file(std::vector<uint8_t>(1000, 0x67), small_limits()));
}

TEST(a_saved_slot_goes_on_as_if_it_had_stayed) {
    const temporary_directory directory;
    for (const bool unified : {true, false}) {
        engine target(demo_model(), saving(directory, 2, unified));
        const auto tokens = prompt(1, 200);
        const std::string text = answer(target.submit(in_slot(tokens, 20, 1)));
        const auto saved = target.save_slot(1, "one.bin");
        CHECK_EQ(saved.n_tokens, 219);
        CHECK_EQ(saved.n_bytes, fs::file_size(directory / "one.bin"));
        CHECK_EQ(directory.n_files(), 1u);
        CHECK_EQ(target.erase_slot(1).n_tokens, 219);
        CHECK_EQ(target.erase_slot(1).n_tokens, 0);
        const auto restored = target.restore_slot(0, "one.bin");
        CHECK_EQ(restored.n_tokens, 219);
        CHECK_EQ(restored.n_bytes, saved.n_bytes);
        const uint64_t n_before = target.metrics().n_cached_tokens.load();
        CHECK_EQ(answer(target.submit(in_slot(tokens, 20, 0))), text);
        CHECK_EQ(target.metrics().n_cached_tokens.load() - n_before, 199u);
        // And an empty one.
        CHECK_EQ(target.save_slot(1, "empty.bin").n_tokens, 0);
        CHECK_EQ(target.restore_slot(0, "empty.bin").n_tokens, 0);
        CHECK_EQ(target.slots()[0].n_cached, 0);
        fs::remove(directory / "empty.bin");
    }
}

TEST(a_slot_without_our_proof_is_looked_at_cell_by_cell) {
    const temporary_directory directory;
    const server_params params = saving(directory);
    engine target(demo_model(), params);
    const auto tokens = prompt(1, 100);
    const std::string text = answer(target.submit(in_slot(tokens, 10, 0)));
    target.save_slot(0, "ours");
    const std::vector<uint8_t> foreign = without_proof(read_bytes(directory / "ours"), limits_of(target, params));
    write_bytes(directory / "theirs", foreign);
    CHECK_EQ(target.restore_slot(1, "theirs").n_bytes, foreign.size());
    CHECK_EQ(answer(target.submit(in_slot(tokens, 10, 1))), text);
    // Whatever is changed in its head, it is refused or it loads; the slots work on.
    random_source random(3);
    for (int i = 0; i < 400; ++i) {
        std::vector<uint8_t> damaged = foreign;
        for (uint32_t n = 1 + random.below(4); n > 0; --n) {
            const uint32_t most = random.one_in(4) ? static_cast<uint32_t>(damaged.size()) : 2500;
            damaged[random.below(most)] = static_cast<uint8_t>(random.below(256));
        }
        if (random.one_in(5)) {
            damaged.resize(random.below(static_cast<uint32_t>(damaged.size())));
        }
        write_bytes(directory / "damaged", damaged);
        try {
            target.restore_slot(1, "damaged");
        } catch (const error & refused) {
            CHECK(refused.kind == error_kind::invalid_request);
        }
    }
    target.erase_slot(1);
    CHECK_EQ(answer(target.submit(in_slot(tokens, 10, 1))), text);
}

TEST(names_lead_nowhere_else) {
    const temporary_directory directory;
    engine target(demo_model(), saving(directory));
    fs::create_directory(directory / "folder");
    fs::create_symlink("/etc/hostname", directory / "link");
    CHECK_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
    const size_t n_files = directory.n_files();
    const std::vector<std::string> bad = {"",
                                          ".",
                                          "..",
                                          "../x",
                                          "/etc/hostname",
                                          "a/b",
                                          "a\\b",
                                          std::string("a\0b", 3),
                                          "x\n",
                                          std::string(256, 'x'),
                                          "..\xe2\x88\x95x",
                                          "\xff",
                                          "a ",
                                          "folder",
                                          "link",
                                          "pipe"};
    for (const std::string & name : bad) {
        for (const bool save : {true, false}) {
            try {
                save ? target.save_slot(0, name) : target.restore_slot(0, name);
                CHECK(false);
            } catch (const error & refused) {
                CHECK(refused.kind == error_kind::invalid_request);
                CHECK_EQ(refused.param, "filename");
            }
        }
    }
    CHECK_EQ(directory.n_files(), n_files);
    CHECK_THROWS(error, target.restore_slot(0, "missing"));
    CHECK_THROWS(error, target.save_slot(2, "x"));
    CHECK_THROWS(error, target.erase_slot(-1));
    engine without(demo_model(), engine_params(1, 512, true));
    CHECK_THROWS(error, without.save_slot(0, "x"));
}

TEST(what_cannot_be_written_leaves_no_part_behind) {
    const temporary_directory directory;
    engine target(demo_model(), saving(directory));
    answer(target.submit(in_slot(prompt(1, 50), 5, 0)));
    fs::remove_all(directory / "");
    CHECK_THROWS(error, target.save_slot(0, "x"));
    CHECK(!fs::exists(directory / "x"));
}

TEST(an_action_waits_for_its_slot) {
    const temporary_directory directory;
    step_gate gate;
    engine target(demo_model(), saving(directory), gate.decoder());
    const auto tokens = prompt(1, 50);
    const auto running = target.submit(in_slot(tokens, 20, 0));
    gate.run(3);
    auto saved = std::async(std::launch::async, [&] { return target.save_slot(0, "x").n_tokens; });
    const auto next = target.submit(in_slot(prompt(2, 50), 20, 0));
    gate.open();
    CHECK_EQ(saved.get() % 70, 69);  // after the one that ran, or after both: never within
    CHECK_EQ(answer(running), plain_loop(tokens, 20, 512));
    answer(next);
}

TEST(shutdown_ends_what_waits_for_a_slot) {
    const temporary_directory directory;
    step_gate gate;
    engine target(demo_model(), saving(directory), gate.decoder());
    const auto running = target.submit(in_slot(prompt(1, 50), 100, 0));
    gate.run(2);
    auto saved = std::async(std::launch::async, [&] { return target.save_slot(0, "x").n_tokens; });
    gate.run(2);
    target.shutdown("over");
    gate.open();
    try {
        CHECK_EQ(saved.get(), 52);  // it was later than the end of the request
    } catch (const error & refused) {
        CHECK(refused.kind == error_kind::unavailable);
    }
}
