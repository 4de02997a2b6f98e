#pragma once
// Safetensors files, the container of models in the Hugging Face hub: eight bytes of length, a JSON header,
// and the tensors' bytes without gaps. Reading trusts nothing in them.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"

namespace dm::checkpoints {

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100 << 20;

/// A tensor as some file stores it; the values of `Float` are what this program converts from.
struct ForeignTensor {
  enum class Float { f64, f32, f16, bf16 };
  Float dtype = Float::f32;
  std::vector<int64_t> shape;
  int64_t file = 0;  // number of the file
  int64_t offset_bytes = 0;
  int64_t count() const;
};
int64_t size_bytes(ForeignTensor::Float dtype);

/// Tensors of other programs by name, read as float32 in any parts.
class ForeignTensors {
 public:
  /// Throws ExitCode::bad_data naming file and reason for a header beyond 100 MB or beyond the file, JSON
  /// that is broken, tensors that overlap, leave holes or do not have the bytes of their shape, names that
  /// stand twice, types that are no floating point. `paths` are files of one model.
  static ForeignTensors open_safetensors(const std::vector<std::string>& paths);

  const std::map<std::string, ForeignTensor>& tensors() const { return tensors_; }
  /// ExitCode::bad_data when there is none of that name.
  const ForeignTensor& find(const std::string& name) const;
  /// Elements [begin, begin + count) of the row-major tensor.
  void read(const ForeignTensor& tensor, int64_t begin, int64_t count, float* values) const;

  /// For readers of other containers.
  int64_t add_file(File file);
  void add(const std::string& name, ForeignTensor tensor);
  const std::string& path(int64_t file) const { return files_[static_cast<size_t>(file)].path(); }

 private:
  void add_safetensors(const std::string& path);

  std::vector<File> files_;
  std::map<std::string, ForeignTensor> tensors_;
};

/// Writes one file of float32 tensors, whose payload comes in the order of the list.
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    int64_t size_bytes() const;
  };
  /// Creates the file, which must not exist.
  SafetensorsWriter(const std::string& path, const std::vector<Tensor>& tensors);
  void append(const float* values, int64_t count);
  /// All bytes must have come. Makes the file durable.
  void finish();

 private:
  File file_;
  int64_t at_ = 0, end_ = 0;
};

}  // namespace dm::checkpoints
