#include "indent_rule.h"

#include "check.h"

using pyllama::indent_rule;

TEST(the_first_line_is_free) {
    indent_rule rule(4);
    CHECK_EQ(rule.accept("x = 1"), 5u);
    CHECK_EQ(rule.accept("; y\n"), 4u);
}

TEST(text_is_cut_where_the_blanks_end) {
    indent_rule rule(4);
    CHECK_EQ(rule.accept("a\n    b\n  c"), 10u);
}

TEST(a_line_may_come_in_parts) {
    indent_rule rule(4);
    CHECK_EQ(rule.accept("a\n"), 2u);
    CHECK_EQ(rule.accept("  "), 2u);
    CHECK_EQ(rule.accept("\t "), 2u);
    CHECK_EQ(rule.accept("b"), 1u);
    CHECK_EQ(rule.accept("\n "), 2u);
    CHECK_EQ(rule.accept("c"), 0u);
}

TEST(empty_lines_are_no_lines) {
    indent_rule rule(2);
    CHECK_EQ(rule.accept("a\n\n\n  b"), 7u);
}

TEST(zero_allows_everything) {
    indent_rule rule(0);
    CHECK_EQ(rule.accept("a\nb"), 3u);
}
