#include "histogram.h"

#include <thread>

#include "check.h"

using namespace pyllama;

TEST(bounds_belong_to_the_bucket_below) {
    histogram<2> times{std::array{0.5, 2.0}};
    for (const double value : {0.0, 0.5, 0.6, 2.0, 2.1, 1e9}) {
        times.observe(value);
    }
    const histogram_values read = times.values();
    CHECK(read.bounds == (std::vector<double>{0.5, 2.0}));
    CHECK(read.counts == (std::vector<uint64_t>{2, 2, 2}));
    CHECK_EQ(read.sum, 0.0 + 0.5 + 0.6 + 2.0 + 2.1 + 1e9);
}

TEST(a_reader_beside_the_writer_sees_counts_that_grow) {
    histogram<1> times{std::array{1.0}};
    std::thread writer([&] {
        for (int i = 0; i < 20000; ++i) {
            times.observe(i % 2 == 0 ? 0.5 : 1.5);
        }
    });
    uint64_t last = 0;
    while (last < 10000) {
        const histogram_values read = times.values();
        CHECK(read.counts[0] >= last);
        last = read.counts[0];
    }
    writer.join();
    CHECK_EQ(times.values().counts[1], 10000u);
    CHECK_EQ(times.values().sum, 20000.0);
}
