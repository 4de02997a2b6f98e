#pragma once
// A group that hands everything to another, for groups that are one with something more.

#include "core/collectives.h"

namespace dm {

class ForwardingCollectives : public Collectives {
 public:
  explicit ForwardingCollectives(Collectives& inner) : inner_(inner) {}

  int64_t rank() const override { return inner_.rank(); }
  int64_t size() const override { return inner_.size(); }
  void all_reduce(void* data, int64_t count, DType dtype, Reduce op) override {
    inner_.all_reduce(data, count, dtype, op);
  }
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce op) override {
    return inner_.reduce_scatter(input, output, count, dtype, op);
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    return inner_.all_gather(input, output, count, dtype);
  }
  void broadcast(void* data, int64_t count, DType dtype, int64_t root) override {
    inner_.broadcast(data, count, dtype, root);
  }
  std::unique_ptr<Pending> send(const void* data, int64_t count, DType dtype, int64_t to) override {
    return inner_.send(data, count, dtype, to);
  }
  std::unique_ptr<Pending> receive(void* data, int64_t count, DType dtype, int64_t from) override {
    return inner_.receive(data, count, dtype, from);
  }
  void barrier() override { inner_.barrier(); }
  std::unique_ptr<Collectives> duplicate() override { return inner_.duplicate(); }

 private:
  Collectives& inner_;
};

}  // namespace dm
