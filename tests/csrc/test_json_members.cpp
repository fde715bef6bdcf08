#include "json_members.h"

#include "check.h"
#include "errors.h"

using namespace pyllama;

namespace {

std::string taken(const std::string & text, size_t n_most = 8) {
    std::string shown;
    for (const auto & [name, value] : json_members(text, n_most)) {
        shown.append(name).append("=").append(value).append(";");
    }
    return shown;
}

bool refused(const std::string & text, size_t n_most = 8) {
    try {
        json_members(text, n_most);
        return false;
    } catch (const error & e) {
        return e.kind == error_kind::invalid_request;
    }
}

}  // namespace

TEST(values_stand_as_they_were_written) {
    CHECK_EQ(taken("{}"), "");
    CHECK_EQ(taken(" { } \n"), "");
    CHECK_EQ(taken(R"({"a":1})"), "a=1;");
    CHECK_EQ(taken("{ \"a\" : -1.5e3 ,\n\"b\":\ttrue , \"c\":null}"), "a=-1.5e3;b=true;c=null;");
    CHECK_EQ(taken(R"({"a":"x\"}{[,:","b":""})"), R"(a="x\"}{[,:";b="";)");
    CHECK_EQ(taken(R"({"a":{"b":[1,{"c":"]}"}]},"d":[ ]})"), R"(a={"b":[1,{"c":"]}"}]};d=[ ];)");
    CHECK_EQ(taken(R"({"a\"b\u0041":1,"":2})"), R"(a\"b\u0041=1;=2;)");
    CHECK_EQ(taken(R"({"a":1,"a":2})"), "a=1;a=2;");
    CHECK_EQ(taken("{\"a\":\"\\\\\"}"), "a=\"\\\\\";");
}

TEST(what_is_no_object_is_refused) {
    for (const char * text : {"",
                              " ",
                              "null",
                              "[]",
                              "\"a\"",
                              "{",
                              "}",
                              "{\"a\"",
                              "{\"a\":",
                              "{\"a\":1",
                              "{\"a\":}",
                              "{\"a\":,}",
                              "{a:1}",
                              "{\"a\":1,}",
                              "{\"a\":1}}",
                              "{\"a\":1} x",
                              "{\"a\":\"}",
                              "{\"a\":\"\\",
                              "{\"a\":\"\\\"}",
                              "{\"a\":[1}",
                              "{\"a\":{\"b\":[}",
                              "{\"a\" 1}",
                              "{\"a\":1 2}",
                              "{\"a\":1\"b\":2}",
                              "{,}",
                              "{\"a\":]}",
                              "{\"a\":1]"}) {
        CHECK(refused(text));
    }
    CHECK(refused(std::string("{\"a\":1}\0", 8)));
    CHECK(refused(std::string("{\0\"a\":1}", 8)));
}

TEST(members_are_limited_and_depth_costs_no_stack) {
    CHECK_EQ(taken(R"({"a":1,"b":2})", 2), "a=1;b=2;");
    CHECK(refused(R"({"a":1,"b":2,"c":3})", 2));
    const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
    CHECK_EQ(taken("{\"a\":" + deep + "}").size(), deep.size() + 3);
    CHECK(refused("{\"a\":" + std::string(1000000, '[')));
}
