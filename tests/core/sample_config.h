#pragma once
// A config with a field of every type and every kind of constraint, for the tests of the table and of INI
// files.

#include <cstdint>
#include <string>
#include <vector>

#include "core/fields.h"

namespace dm::test {

struct SampleConfig {
  bool packed = true;
  int64_t d_model = 64;
  double lr = 1e-3;
  std::string order = "shuffled";
  std::string note;
  std::vector<std::string> layers = {"head", "lambda"};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("packed", self.packed, "whether documents share a row");
    v("d_model", self.d_model, "width", Range{1, 1 << 20});
    v("lr", self.lr, "peak learning rate", Range{0, 10});
    v("order", self.order, "order of samples", Choices{{"shuffled", "streams"}});
    v("note", self.note, "any text", Affects::output);
    v("layers", self.layers, "what to look at", Choices{{"head", "lambda", "gate"}}, Affects::output);
  }
};

struct SpeedConfig {
  int64_t threads = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& v) {
    v("threads", self.threads, "threads; 0: all", Range{.min = 0}, Affects::speed);
  }
};

}  // namespace dm::test
