#include "core/collectives.h"

#include <cstring>

#include "core/error.h"

namespace dm {

double Collectives::all_sum(double value) {
  all_reduce(&value, 1, DType::f64, Reduce::sum);
  return value;
}
double Collectives::all_max(double value) {
  all_reduce(&value, 1, DType::f64, Reduce::max);
  return value;
}
int64_t Collectives::all_max(int64_t value) {
  all_reduce(&value, 1, DType::i64, Reduce::max);
  return value;
}
bool Collectives::all_agree(bool value) {
  int64_t agreed = value ? 1 : 0;
  all_reduce(&agreed, 1, DType::i64, Reduce::min);
  return agreed == 1;
}

std::vector<std::string> Collectives::gather_text(const std::string& text) {
  const int64_t longest = all_max(static_cast<int64_t>(text.size()));
  const int64_t stride = longest + static_cast<int64_t>(sizeof(int64_t));
  std::string mine(static_cast<size_t>(stride), '\0'), all(static_cast<size_t>(stride * size()), '\0');
  const auto length = static_cast<int64_t>(text.size());
  std::memcpy(mine.data(), &length, sizeof length);
  std::memcpy(mine.data() + sizeof length, text.data(), text.size());
  all_gather(mine.data(), all.data(), stride, DType::u8)->wait();
  std::vector<std::string> texts;
  for (int64_t r = 0; r < size(); ++r) {
    const char* piece = all.data() + r * stride;
    int64_t piece_length = 0;
    std::memcpy(&piece_length, piece, sizeof piece_length);
    texts.emplace_back(piece + sizeof piece_length, static_cast<size_t>(piece_length));
  }
  return texts;
}

namespace {
struct Done final : Pending {
  void wait() override {}
};

class SingleProcess final : public Collectives {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  void all_reduce(void*, int64_t, DType, Reduce) override {}
  std::unique_ptr<Pending> reduce_scatter(const void* input, void* output, int64_t count, DType dtype,
                                          Reduce) override {
    return copied(input, output, count, dtype);
  }
  std::unique_ptr<Pending> all_gather(const void* input, void* output, int64_t count, DType dtype) override {
    return copied(input, output, count, dtype);
  }
  void broadcast(void*, int64_t, DType, int64_t root) override {
    DM_CHECK(root == 0, "broadcast from rank {} in a group of one", root);
  }
  std::unique_ptr<Pending> send(const void*, int64_t, DType, int64_t to) override {
    DM_FAIL(ExitCode::internal, "send to rank {} in a group of one", to);
  }
  std::unique_ptr<Pending> receive(void*, int64_t, DType, int64_t from) override {
    DM_FAIL(ExitCode::internal, "receive from rank {} in a group of one", from);
  }
  void barrier() override {}
  std::unique_ptr<Collectives> duplicate() override { return make_single_process_collectives(); }

 private:
  static std::unique_ptr<Pending> copied(const void* input, void* output, int64_t count, DType dtype) {
    if (input != output && count > 0)
      std::memcpy(output, input, static_cast<size_t>(count * size_bytes(dtype)));
    return std::make_unique<Done>();
  }
};
}  // namespace

std::unique_ptr<Collectives> make_single_process_collectives() { return std::make_unique<SingleProcess>(); }

}  // namespace dm
