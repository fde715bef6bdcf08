// A line through the origin of two features, fitted to times as they come: its shape by least squares over the last
// hundred or so, relative errors alike, and a factor that follows how fast the machine is at the moment. So depth and
// size are told apart even where they change slowly and together. Pure: it knows no clock. Not thread-safe.
#pragma once

namespace pyllama {

struct cost_features {
    double first;
    double second;
};

class cost_line {
  public:
    // Takes a time in. What is slower than expected counts up to a limit, since a step may be held up by anything;
    // nothing but its work makes a step fast.
    void observe(const cost_features & x, double ms);

    double at(const cost_features & x) const { return pace_ * shape(x); }
    bool seen() const { return seen_; }

  private:
    double shape(const cost_features & x) const { return first_ * x.first + second_ * x.second; }
    void fit();

    // Of all observations, each divided by its time, or by the expected one if that is longer, and counting less the
    // older it is: the sums of the products of two features, and of a feature and the time.
    double sum_11_ = 0;
    double sum_12_ = 0;
    double sum_22_ = 0;
    double sum_1_ = 0;
    double sum_2_ = 0;
    double first_ = 0;
    double second_ = 0;
    double pace_ = 1;
    bool seen_ = false;
};

}  // namespace pyllama
