#include "predictions.h"

#include "check.h"
#include "errors.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

std::string refused(const std::string & body) {
    try {
        split_predictions(body);
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::invalid_request);
        return reason.what();
    }
    return "-";
}

std::string many(size_t n) {
    std::string body = "{\"instances\":[";
    for (size_t i = 0; i < n; ++i) {
        body += i > 0 ? ",{}" : "{}";
    }
    return body + "]}";
}

}  // namespace

TEST(instances_are_requests_without_their_format) {
    const auto instances = split_predictions(R"({"instances":[{"@requestFormat":"chatCompletions","a":[1,{"b":null}],
        "stream":true,"c":"\u00e9"},{"@requestFormat":"/tokenize"}],"parameters":{}})");
    CHECK_EQ(instances.size(), 2u);
    CHECK_EQ(instances[0].format, "chatCompletions");
    CHECK_EQ(instances[0].body, "{\"a\":[1,{\"b\":null}],\"c\":\"\xc3\xa9\"}");
    CHECK_EQ(instances[1].format, "/tokenize");
    CHECK_EQ(instances[1].body, "{}");
    CHECK(instances[0].problem.empty() && instances[1].problem.empty());
}

TEST(a_bad_instance_does_not_spoil_the_others) {
    const auto instances = split_predictions(R"({"instances":[5,{},{"@requestFormat":1},{"@requestFormat":"x"}]})");
    CHECK_EQ(instances.size(), 4u);
    for (size_t i = 0; i < 3; ++i) {
        CHECK(!instances[i].problem.empty());
    }
    CHECK(instances[3].problem.empty());
}

TEST(a_body_without_a_list_is_refused) {
    for (const char * body : {"", "{", "[]", "{}", R"({"instances":{}})", R"({"instances":null})"}) {
        CHECK(refused(body) != "-");
    }
    CHECK_EQ(refused(many(128)), "-");
    CHECK(refused(many(129)).find("128") != std::string::npos);
    CHECK_EQ(split_predictions(many(0)).size(), 0u);
}
