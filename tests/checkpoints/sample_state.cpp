#include "tests/checkpoints/sample_state.h"

#include <algorithm>
#include <cstring>

#include "core/rng.h"

namespace dm::test {
namespace {

using checkpoints::Box;
using checkpoints::Piece;

int64_t count_of(const std::vector<int64_t>& shape) { return Box{{}, shape}.count(); }

/// The bytes of a box of the tensor `name`: each element's come from its place in the whole tensor.
std::vector<std::byte> values(const Piece& piece, uint64_t seed) {
  const CounterRng rng(seed, piece.name);
  const auto element = static_cast<size_t>(size_bytes(piece.dtype));
  std::vector<std::byte> bytes(static_cast<size_t>(piece.size_bytes()));
  const size_t dims = piece.box.shape.size();
  for (int64_t i = 0; i < piece.box.count(); ++i) {
    int64_t rest = i, flat = 0, stride = 1;
    for (size_t d = dims; d-- > 0; rest /= piece.box.shape[d], stride *= piece.global_shape[d])
      flat += (piece.box.offset[d] + rest % piece.box.shape[d]) * stride;
    const uint64_t bits = rng.bits(static_cast<uint64_t>(flat));
    std::memcpy(bytes.data() + static_cast<size_t>(i) * element, &bits, element);
  }
  return bytes;
}

}  // namespace

std::vector<SampleTensor> sample_tensors(bool large) {
  std::vector<SampleTensor> tensors = {{"backbone.embedding.weight", DType::f32, {37, 8}},
                                       {"backbone.layers.0.mixer.lambda", DType::f64, {}},
                                       {"backbone.layers.0.mixer.conv1d.weight", DType::f32, {11, 1, 4}},
                                       {"backbone.layers.0.mixer.A_log", DType::f32, {5}},
                                       {"backbone.layers.0.empty", DType::f32, {0, 3}},
                                       {"lm_head.weight", DType::bf16, {3, 7, 2}},
                                       {"counts", DType::i64, {13}}};
  if (large)
    tensors.push_back(
        {"large.weight", DType::f32, {2111, 4099}});  // 33 MiB: three chunks, the last one ragged
  const size_t parameters = tensors.size();
  for (const char* slot : {"adamw.m/", "adamw.v/"})
    for (size_t i = 0; i < parameters; ++i)
      if (tensors[i].name != "large.weight")
        tensors.push_back({slot + tensors[i].name, tensors[i].dtype, tensors[i].shape});
  return tensors;
}

SampleState::SampleState(Split split, int64_t rank, int64_t world, uint64_t seed, bool filled, bool large) {
  const std::vector<SampleTensor> tensors = sample_tensors(large);
  int64_t total = 0, before = 0;
  for (const SampleTensor& tensor : tensors) total += count_of(tensor.shape);
  const int64_t begin = total * rank / world, end = total * (rank + 1) / world;
  for (const SampleTensor& tensor : tensors) {
    const int64_t count = count_of(tensor.shape);
    const auto& shape = tensor.shape;
    if (split == Split::ranges) {
      const int64_t first = std::clamp<int64_t>(begin - before, 0, count),
                    last = std::clamp<int64_t>(end - before, 0, count);
      for (Box& box : checkpoints::boxes_of_range(shape, first, last))
        add(tensor.name, tensor.dtype, shape, std::move(box), seed, filled);
      // A tensor without elements has no box; one rank names it all the same.
      if (count == 0 && rank == 0)
        add(tensor.name, tensor.dtype, shape, {std::vector<int64_t>(shape.size(), 0), shape}, seed, filled);
    } else if (split == Split::columns && !shape.empty() && shape.back() > 1) {
      Box box{std::vector<int64_t>(shape.size(), 0), shape};
      box.offset.back() = shape.back() * rank / world;
      box.shape.back() = shape.back() * (rank + 1) / world - box.offset.back();
      add(tensor.name, tensor.dtype, shape, std::move(box), seed, filled);
    } else if (rank == 0) {
      add(tensor.name, tensor.dtype, shape, {std::vector<int64_t>(shape.size(), 0), shape}, seed, filled);
    }
    before += count;
  }
}

void SampleState::add(const std::string& name, DType dtype, const std::vector<int64_t>& shape, Box box,
                      uint64_t seed, bool filled) {
  Piece piece{name, dtype, shape, std::move(box), nullptr};
  memory_.push_back(filled
                        ? values(piece, seed)
                        : std::vector<std::byte>(static_cast<size_t>(piece.size_bytes()), std::byte{0xee}));
  piece.data = memory_.back().data();
  pieces_.push_back(std::move(piece));
}

std::vector<std::string> SampleState::wrong(uint64_t seed) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < pieces_.size(); ++i)
    if (values(pieces_[i], seed) != memory_[i]) names.push_back(pieces_[i].name);
  return names;
}

}  // namespace dm::test
