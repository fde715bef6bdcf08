#include "media_token.h"

#include <random>
#include <set>

#include "check.h"
#include "errors.h"

using namespace pyllama;

namespace {

const std::string some_hash(64, 'f');

std::string hash_of(uint32_t seed) {
    std::mt19937 random(seed);
    std::string digits(64, '0');
    for (char & digit : digits) {
        digit = "0123456789abcdef"[random() % 16];
    }
    return digits;
}

}  // namespace

TEST(tokens_of_media_are_no_tokens_of_text_and_not_the_null_token) {
    for (uint32_t seed = 0; seed < 200; ++seed) {
        for (const llama_token token : media_tokens(hash_of(seed), seed % 7, 300, 20)) {
            CHECK(is_media(token));
            CHECK(token != LLAMA_TOKEN_NULL);
        }
    }
    CHECK(!is_media(LLAMA_TOKEN_NULL));
    CHECK(!is_media(0));
}

TEST(the_same_content_has_the_same_tokens_and_no_other_has) {
    const auto tokens = media_tokens(some_hash, 0, 12, 12);
    CHECK(tokens == media_tokens(some_hash, 0, 12, 12));
    CHECK(tokens != media_tokens(some_hash, 1, 12, 12));
    CHECK(tokens != media_tokens(some_hash, 0, 12, 4));
    // Whichever bit of the hash is another one, the first nine rows tell.
    for (size_t i = 0; i < some_hash.size(); ++i) {
        for (const char digit : {'e', 'd', 'b', '7'}) {
            std::string other = some_hash;
            other[i] = digit;
            auto others = media_tokens(other, 0, 12, 12);
            others.resize(9);
            CHECK(!std::equal(others.begin(), others.end(), tokens.begin()));
        }
    }
    std::set<std::vector<llama_token>> seen;
    for (uint32_t seed = 0; seed < 1000; ++seed) {
        seen.insert(media_tokens(hash_of(seed), 0, least_known_rows, 1));
    }
    CHECK_EQ(seen.size(), size_t{1000});
}

TEST(too_few_rows_are_like_no_others) {
    CHECK(media_tokens(some_hash, 0, least_known_rows - 1, 1) != media_tokens(some_hash, 0, least_known_rows - 1, 1));
}

TEST(a_list_knows_its_positions_and_where_chunks_begin) {
    std::vector<llama_token> list = {1, 2, 3};
    for (const int32_t n_pos : {2, 6}) {
        const auto media = media_tokens(some_hash, 0, 6, n_pos);
        list.insert(list.end(), media.begin(), media.end());
    }
    list.push_back(4);
    CHECK_EQ(n_positions(list, 3), 3);
    CHECK_EQ(n_positions(list, 9), 5);
    CHECK_EQ(n_positions(list, 15), 11);
    CHECK_EQ(n_positions(list, 16), 12);
    CHECK(has_media(list));
    const int32_t expected[] = {0, 1, 2, 3, 3, 3, 3, 3, 3, 9, 9, 9, 9, 9, 9, 15, 16};
    for (int32_t n = 0; n <= 16; ++n) {
        CHECK_EQ(without_cut_media(list, n), expected[n]);
    }
}

TEST(a_list_that_ends_within_a_chunk_is_read_by_a_longer_one) {
    const auto media = media_tokens(some_hash, 0, 6, 6);
    std::vector<llama_token> whole = {1};
    whole.insert(whole.end(), media.begin(), media.end());
    CHECK_EQ(without_cut_media(whole, 4), 1);
    CHECK_EQ(without_cut_media(whole, 7), 7);
}

TEST(media_without_a_hash_or_a_place_is_refused) {
    CHECK_THROWS(error, media_tokens("", 0, 4, 4));
    CHECK_THROWS(error, media_tokens(std::string(64, 'x'), 0, 4, 4));
    CHECK_THROWS(error, media_tokens(some_hash, 0, 4, 5));
    CHECK_THROWS(error, media_tokens(some_hash, 0, 0, 0));
}
