#include "checkpoints/safetensors.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "checkpoints/boxes.h"
#include "checkpoints/directory.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

constexpr int64_t kReadElements = 1 << 20;  // converted at a time

std::optional<ForeignTensor::Float> parse_float(const std::string& name) {
  using Float = ForeignTensor::Float;
  if (name == "F64") return Float::f64;
  if (name == "F32") return Float::f32;
  if (name == "F16") return Float::f16;
  if (name == "BF16") return Float::bf16;
  return std::nullopt;
}

float from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 0x1F,
                 fraction = bits & 0x3FF;
  if (exponent == 0) {  // zero, or so small that it has no leading one
    const float value = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

void convert(ForeignTensor::Float dtype, const char* bytes, int64_t count, float* values) {
  for (int64_t i = 0; i < count; ++i) {
    if (dtype == ForeignTensor::Float::f64) {
      double value;
      std::memcpy(&value, bytes + i * 8, sizeof value);
      values[i] = static_cast<float>(value);
    } else {
      uint16_t bits;
      std::memcpy(&bits, bytes + i * 2, sizeof bits);
      values[i] = dtype == ForeignTensor::Float::f16
                      ? from_half(bits)
                      : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
    }
  }
}

std::vector<int64_t> integers(const Json& json, const char* key, const std::string& where) {
  const Json list = required<Json>(json, key, where);
  DM_REQUIRE(list.is_array(), ExitCode::bad_data, "{}: '{}' is no list", where, key);
  std::vector<int64_t> values;
  for (const Json& item : list) values.push_back(required<int64_t>(Json{{key, item}}, key, where));
  return values;
}

}  // namespace

int64_t size_bytes(ForeignTensor::Float dtype) {
  return dtype == ForeignTensor::Float::f64 ? 8 : dtype == ForeignTensor::Float::f32 ? 4 : 2;
}

int64_t ForeignTensor::count() const { return Box{{}, shape}.count(); }

ForeignTensors ForeignTensors::open_safetensors(const std::vector<std::string>& paths) {
  ForeignTensors all;
  for (const std::string& path : paths) all.add_safetensors(path);
  return all;
}

int64_t ForeignTensors::add_file(File file) {
  files_.push_back(std::move(file));
  return static_cast<int64_t>(files_.size()) - 1;
}

void ForeignTensors::add(const std::string& name, ForeignTensor tensor) {
  const std::string& where = path(tensor.file);
  DM_REQUIRE(tensors_.emplace(name, std::move(tensor)).second, ExitCode::bad_data,
             "{}: the tensor '{}' stands twice in the files of this model", where, name);
}

void ForeignTensors::add_safetensors(const std::string& path) {
  const int64_t number = add_file(open_regular(path));
  const File& file = files_.back();
  const int64_t size = file.size_bytes();
  uint64_t length = 0;
  DM_REQUIRE(size >= 8, ExitCode::bad_data, "{}: {} bytes are no safetensors file", path, size);
  file.read_at(&length, sizeof length, 0);
  DM_REQUIRE(
      length <= static_cast<uint64_t>(kMaxSafetensorsHeaderBytes) && static_cast<int64_t>(length) <= size - 8,
      ExitCode::bad_data,
      "{}: a header of {} bytes in a file of {} ({} are the most): damaged, or no safetensors file", path,
      length, size, kMaxSafetensorsHeaderBytes);
  std::string header(length, '\0');
  file.read_at(header.data(), header.size(), 8);
  const Json json = parse_json(header, path + ": header");
  DM_REQUIRE(json.is_object(), ExitCode::bad_data, "{}: the header is no object", path);

  const int64_t payload = 8 + static_cast<int64_t>(length);
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") continue;
    const std::string where = fmt::format("{}: '{}'", path, name);
    const auto dtype = required<std::string>(entry, "dtype", where);
    const auto kind = parse_float(dtype);
    DM_REQUIRE(kind, ExitCode::bad_data, "{}: of the type {}; F64, F32, F16 and BF16 can be read", where,
               dtype);
    ForeignTensor tensor{*kind, integers(entry, "shape", where), number};
    const auto bytes = checked_bytes(tensor.shape, size_bytes(*kind));
    const std::vector<int64_t> offsets = integers(entry, "data_offsets", where);
    DM_REQUIRE(bytes && offsets.size() == 2 && offsets[0] >= 0 && offsets[1] >= offsets[0] &&
                   offsets[1] <= size - payload && offsets[1] - offsets[0] == *bytes,
               ExitCode::bad_data,
               "{}: its data_offsets do not lie in the file, or have not the bytes of its shape", where);
    DM_REQUIRE(entry.size() == 3, ExitCode::bad_data, "{}: has members besides dtype, shape and data_offsets",
               where);
    tensor.offset_bytes = payload + offsets[0];
    ranges.emplace_back(offsets[0], offsets[1]);
    add(name, std::move(tensor));
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t end = 0;
  for (const auto& [begin, next] : ranges) {
    DM_REQUIRE(begin == end, ExitCode::bad_data, "{}: tensors {} at byte {} of the payload", path,
               begin < end ? "overlap" : "leave a hole", std::min(begin, end));
    end = next;
  }
  DM_REQUIRE(end == size - payload, ExitCode::bad_data, "{}: {} bytes behind the last tensor belong to none",
             path, size - payload - end);
}

const ForeignTensor& ForeignTensors::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  DM_REQUIRE(found != tensors_.end(), ExitCode::bad_data, "{}: there is no tensor '{}'",
             files_.empty() ? "no file" : path(0), name);
  return found->second;
}

void ForeignTensors::read(const ForeignTensor& tensor, int64_t begin, int64_t count, float* values) const {
  DM_CHECK(begin >= 0 && count >= 0 && begin <= tensor.count() - count, "[{}, {} + {}) of {}", begin, begin,
           count, tensor.count());
  const File& file = files_[static_cast<size_t>(tensor.file)];
  const int64_t element = size_bytes(tensor.dtype);
  if (tensor.dtype == ForeignTensor::Float::f32)
    return file.read_at(values, static_cast<size_t>(count * element), tensor.offset_bytes + begin * element);
  std::vector<char> bytes(static_cast<size_t>(std::min(count, kReadElements) * element));
  for (int64_t done = 0; done < count; done += kReadElements) {
    const int64_t step = std::min(count - done, kReadElements);
    file.read_at(bytes.data(), static_cast<size_t>(step * element),
                 tensor.offset_bytes + (begin + done) * element);
    convert(tensor.dtype, bytes.data(), step, values + done);
  }
}

int64_t SafetensorsWriter::Tensor::size_bytes() const {
  return Box{{}, shape}.count() * static_cast<int64_t>(sizeof(float));
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<Tensor>& tensors)
    : file_(File::open(path, O_WRONLY | O_CREAT | O_EXCL)) {
  OrderedJson header;
  header["__metadata__"] = {{"format", "pt"}};  // transformers refuses files that do not say so
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors) {
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {bytes, bytes + tensor.size_bytes()}}};
    bytes += tensor.size_bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors lie at multiples of eight bytes
  const uint64_t length = text.size();
  file_.write_at(&length, sizeof length, 0);
  file_.write_at(text.data(), text.size(), sizeof length);
  at_ = static_cast<int64_t>(sizeof length + text.size());
  end_ = at_ + bytes;
}

void SafetensorsWriter::append(const float* values, int64_t count) {
  const auto bytes = count * static_cast<int64_t>(sizeof(float));
  DM_CHECK(bytes <= end_ - at_, "{}: more elements than announced", file_.path());
  file_.write_at(values, static_cast<size_t>(bytes), at_);
  at_ += bytes;
}

void SafetensorsWriter::finish() {
  DM_CHECK(at_ == end_, "{}: {} bytes are missing", file_.path(), end_ - at_);
  file_.sync();
  file_.close();
}

}  // namespace dm::checkpoints
