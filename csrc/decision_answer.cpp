// From a decision model's scores to the answers: see decision.h. Pure; any thread.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "decision.h"
#include "json_text.h"

namespace pyllama {

namespace {

// How much the likeliest option stands out: 0 when all are as likely, 1 when it is certain.
double confidence_of_choice(const std::vector<double> & probabilities) {
    const auto n = static_cast<double>(probabilities.size());
    const double most = *std::max_element(probabilities.begin(), probabilities.end());
    return n < 2 ? 1 : std::max(0.0, (most - 1 / n) / (1 - 1 / n));
}

// How close to the likeliest level the others are, against levels that are all as likely.
double confidence_of_score(const std::vector<double> & probabilities) {
    const auto n = static_cast<double>(probabilities.size());
    const auto mode =
        static_cast<double>(std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin());
    double distance = 0;
    double uniform = 0;
    for (size_t i = 0; i < probabilities.size(); ++i) {
        const auto level = static_cast<double>(i);
        distance += probabilities[i] * std::abs(level - mode);
        uniform += std::abs(level - (n - 1) / 2) / n;
    }
    return std::max(0.0, 1 - distance / uniform);
}

std::vector<double> softmax(const std::vector<float> & scores, float temperature) {
    const double most = *std::max_element(scores.begin(), scores.end());
    std::vector<double> probabilities;
    double sum = 0;
    for (const float score : scores) {
        probabilities.push_back(std::exp((static_cast<double>(score) - most) / static_cast<double>(temperature)));
        sum += probabilities.back();
    }
    for (double & probability : probabilities) {
        probability /= sum;
    }
    return probabilities;
}

void append_member(std::string & out, const char * name) {
    out.append(out.back() == '{' ? "\"" : ",\"").append(name).append("\":");
}

void append_probabilities(std::string & out, const decision_question & question,
                          const std::vector<double> & probabilities) {
    append_member(out, "probabilities");
    out += '{';
    for (size_t i = 0; i < probabilities.size(); ++i) {
        out += i > 0 ? "," : "";
        append_quoted(out, question.options[i].key);
        out += ':';
        append_number(out, probabilities[i]);
    }
    out += '}';
}

}  // namespace

// As it was fitted: by kind and number of options, or by kind alone.
float decision_rules::temperature(const decision_question & question) const {
    const size_t n = question.options.size();
    const std::string kind = kind_name(question.kind);
    const char * bucket = n <= 2 ? ".2" : n <= 5 ? ".3_5" : n <= 10 ? ".6_10" : ".11";
    for (const std::string & name : {kind + bucket, kind}) {
        const auto found = temperatures_.find(name);
        if (found != temperatures_.end()) {
            return found->second;
        }
    }
    return 1;
}

std::string decision_rules::answer(const decision_question & question, const std::vector<float> & scores) const {
    const std::vector<double> probabilities = softmax(scores, temperature(question));
    std::string out = "{";
    append_member(out, "type");
    append_quoted(out, kind_name(question.kind));
    if (question.kind == question_kind::noul) {
        append_member(out, "noul");
        append_number(out, probabilities[question.options[0].key == "true" ? 0 : 1]);
    } else if (question.kind == question_kind::choice) {
        const auto best = std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin();
        append_member(out, "choice");
        append_quoted(out, question.options[static_cast<size_t>(best)].key);
        append_probabilities(out, question, probabilities);
        append_member(out, "confidence");
        append_number(out, confidence_of_choice(probabilities));
    } else {
        double expected = 0;
        common_json legend = common_json::object();
        for (size_t i = 0; i < probabilities.size(); ++i) {
            expected += static_cast<double>(i) * probabilities[i];
            legend[question.options[i].key] = question.options[i].description;
        }
        append_member(out, "score");
        append_number(out, expected);
        append_member(out, "legend");
        out += legend.dump_safe();
        append_probabilities(out, question, probabilities);
        append_member(out, "confidence");
        append_number(out, confidence_of_score(probabilities));
    }
    return out + "}";
}

}  // namespace pyllama
