#include "sentence_end.h"

#include "check.h"

using namespace pyllama;

TEST(lines_and_sentences_end) {
    for (const char * text : {"\n", "a\n", "a \n ", "3.\n", "It is.", "It is. ", "(It is.)", "\"It is!\" ", "Is it?**",
                              "a \xE2\x80\x9CIt is.\xE2\x80\x9D", "\xE5\x97\xA8\xE3\x80\x82", "a\xE2\x80\xA6"}) {
        CHECK(ends_sentence(text));
    }
}

TEST(what_goes_on_does_not_end) {
    for (const char * text : {"", " ", "a", "a,", "3.", "1. ", ".", "a.b", "a\nb", "\"a\"", "(1.)", "\xE3\x80"}) {
        CHECK(!ends_sentence(text));
    }
}
