#include "checkpoints/manifest.h"

#include <algorithm>
#include <cmath>

#include "checkpoints/boxes.h"
#include "checkpoints/names.h"
#include "core/error.h"

namespace dm::checkpoints {
namespace {

// --- writing ---

void require_finite(const Json& json) {
  DM_CHECK(!json.is_number_float() || std::isfinite(json.get<double>()),
           "meta holds a number that JSON cannot: {}", json.get<double>());
  if (json.is_structured())
    for (const Json& member : json) require_finite(member);
}

OrderedJson to_json(const Manifest::File& file) {
  return {{"name", file.name}, {"size_bytes", file.size_bytes}, {"metadata_xxh3_128", hex(file.metadata)}};
}

OrderedJson to_json(const Manifest::Tensor& tensor) {
  OrderedJson pieces = OrderedJson::array();
  for (const auto& piece : tensor.pieces) {
    OrderedJson chunks = OrderedJson::array();
    for (const uint64_t chunk : piece.chunks) chunks.push_back(hex(chunk));
    pieces.push_back(OrderedJson{{"file", piece.file},
                                 {"dataset", piece.dataset},
                                 {"offset_bytes", piece.offset_bytes},
                                 {"global_offset", piece.box.offset},
                                 {"shape", piece.box.shape},
                                 {"xxh3_64", chunks}});
  }
  return {{"name", tensor.name},
          {"dtype", name(tensor.dtype)},
          {"shape", tensor.global_shape},
          {"pieces", pieces}};
}

template <class Items>
std::string lines(const Items& items) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() == 1 ? "\n " : ",\n ") + to_json(item).dump();
  return text + (items.empty() ? "]" : "\n]");
}

// --- reading ---

/// A part of the manifest together with its place, for messages: "…/manifest.json: tensors[3].pieces[0]".
class Node {
 public:
  Node(const Json& json, std::string file, std::string path = "")
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    DM_REQUIRE(condition, ExitCode::bad_data, "{}: {}", where(),
               fmt::format(format, std::forward<Args>(args)...));
  }

  /// An object with exactly these keys: what an older program wrote or a newer one will write has another
  /// version.
  void require_keys(std::initializer_list<const char*> keys) const {
    require(json_.is_object(), "not an object");
    for (const char* key : keys) require(json_.contains(key), "'{}' is missing", key);
    if (json_.size() == keys.size()) return;
    for (const auto& [key, value] : json_.items())
      require(std::find(keys.begin(), keys.end(), key) != keys.end(), "'{}' is not known to this version",
              key);
  }

  Node at(const char* key) const { return {json_.at(key), file_, path_.empty() ? key : path_ + "." + key}; }
  std::vector<Node> elements(const char* key) const {
    const Node list = at(key);
    list.require(list.json_.is_array(), "not a list");
    std::vector<Node> nodes;
    for (const Json& element : list.json_)
      nodes.emplace_back(element, file_, fmt::format("{}[{}]", list.path_, nodes.size()));
    return nodes;
  }

  std::string text(const char* key) const { return required<std::string>(json_, key, where()); }
  int64_t number(const char* key, int64_t max) const {
    const auto value = required<int64_t>(json_, key, where());
    require(value >= 0 && value <= max, "'{}' is {}, expected 0 .. {}", key, value, max);
    return value;
  }
  std::vector<int64_t> extents(const char* key) const {
    const Json& list = json_.at(key);
    require(list.is_array() && list.size() <= kMaxDims, "'{}' is not a list of at most {} extents", key,
            kMaxDims);
    std::vector<int64_t> values;
    for (const Json& value : list) {
      const bool legal = value.is_number_integer() &&
                         (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX) &&
                         value.get<int64_t>() >= 0;
      require(legal, "'{}' holds {}, which is no extent", key, value.dump());
      values.push_back(value.get<int64_t>());
    }
    return values;
  }
  const Json& json() const { return json_; }
  std::string where() const { return path_.empty() ? file_ : file_ + ": " + path_; }

 private:
  const Json& json_;
  std::string file_, path_;
};

Manifest::File parse_file(const Node& node, int64_t index, int64_t count) {
  node.require_keys({"name", "size_bytes", "metadata_xxh3_128"});
  Manifest::File file{node.text("name"), node.number("size_bytes", kMaxTensorBytes),
                      parse_hash128(node.text("metadata_xxh3_128"), node.where() + ".metadata_xxh3_128")};
  node.require(file.name == shard_name(index, count), "'{}' is not the name '{}' that this file must have",
               file.name, shard_name(index, count));
  return file;
}

Manifest::StoredPiece parse_piece(const Node& node, const Manifest::Tensor& tensor,
                                  const std::vector<Manifest::File>& files) {
  node.require_keys({"file", "dataset", "offset_bytes", "global_offset", "shape", "xxh3_64"});
  Manifest::StoredPiece piece;
  piece.file = node.number("file", static_cast<int64_t>(files.size()) - 1);
  piece.dataset = node.text("dataset");
  piece.box = {node.extents("global_offset"), node.extents("shape")};
  node.require(lies_inside(piece.box, tensor.global_shape), "piece {} of '{}' is empty or outside the tensor",
               text(piece.box), tensor.name);
  piece.offset_bytes = node.number("offset_bytes", kMaxTensorBytes);
  piece.size_bytes = piece.box.count() * size_bytes(tensor.dtype);
  const int64_t bytes = piece.size_bytes, file_bytes = files[piece.file].size_bytes;
  node.require(bytes <= file_bytes && piece.offset_bytes <= file_bytes - bytes,
               "{} bytes at {} reach past the end of {} ({} bytes)", bytes, piece.offset_bytes,
               files[piece.file].name, file_bytes);
  const auto chunks = node.elements("xxh3_64");
  node.require(static_cast<int64_t>(chunks.size()) == (bytes + kChunkBytes - 1) / kChunkBytes,
               "{} hashes for {} bytes", chunks.size(), bytes);
  for (const Node& chunk : chunks) {
    chunk.require(chunk.json().is_string(), "not a hash");
    piece.chunks.push_back(parse_hash64(chunk.json().get_ref<const std::string&>(), chunk.where()));
  }
  return piece;
}

Manifest::Tensor parse_tensor(const Node& node, const std::vector<Manifest::File>& files) {
  node.require_keys({"name", "dtype", "shape", "pieces"});
  Manifest::Tensor tensor{
      node.text("name"), parse_dtype(node.text("dtype"), node.where()), node.extents("shape"), {}};
  node.require(is_tensor_name(tensor.name), "'{}' is no name of a tensor", tensor.name.substr(0, 300));
  node.require(checked_bytes(tensor.global_shape, size_bytes(tensor.dtype)).has_value(),
               "'{}' is larger than 2^60 bytes", tensor.name);

  const auto pieces = node.elements("pieces");
  std::vector<Box> boxes;
  for (const Node& piece : pieces) {
    tensor.pieces.push_back(parse_piece(piece, tensor, files));
    const auto& stored = tensor.pieces.back();
    const auto path =
        dataset_path(tensor.name, static_cast<int64_t>(boxes.size()), static_cast<int64_t>(pieces.size()));
    piece.require(stored.dataset == path, "'{}' is not the dataset '{}' that this piece must have",
                  stored.dataset, path);
    piece.require(boxes.empty() || boxes.back().offset < stored.box.offset,
                  "pieces are not in ascending order");
    boxes.push_back(stored.box);
  }
  const std::string problem = partition_problem(tensor.global_shape, boxes);
  node.require(problem.empty(), "'{}': {}", tensor.name, problem);
  return tensor;
}

/// No byte of a file belongs to two pieces, or a hash could vouch for one and not for the other.
void check_storage(const Manifest& manifest, const std::string& where) {
  struct Range {
    int64_t file, begin, end;
    const std::string* dataset;
  };
  std::vector<Range> ranges;
  for (const auto& tensor : manifest.tensors)
    for (const auto& piece : tensor.pieces)
      ranges.push_back(
          {piece.file, piece.offset_bytes, piece.offset_bytes + piece.size_bytes, &piece.dataset});
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::pair{a.file, a.begin} < std::pair{b.file, b.begin};
  });
  for (size_t i = 1; i < ranges.size(); ++i)
    DM_REQUIRE(ranges[i - 1].file != ranges[i].file || ranges[i - 1].end <= ranges[i].begin,
               ExitCode::bad_data, "{}: {} and {} overlap in {}", where, *ranges[i - 1].dataset,
               *ranges[i].dataset, manifest.files[ranges[i].file].name);
}

}  // namespace

const Manifest::Tensor* Manifest::find(const std::string& wanted) const {
  const auto found =
      std::lower_bound(tensors.begin(), tensors.end(), wanted,
                       [](const Tensor& tensor, const std::string& key) { return tensor.name < key; });
  return found != tensors.end() && found->name == wanted ? &*found : nullptr;
}

std::string to_text(const Manifest& manifest) {
  require_finite(manifest.meta);
  return fmt::format(
      "{{\n\"format\": \"{}\",\n\"version\": {},\n\"step\": {},\n\"chunk_bytes\": {},\n\"files\": "
      "{},\n\"tensors\": {},\n\"meta\": {}\n}}\n",
      kFormat, kFormatVersion, manifest.step, kChunkBytes, lines(manifest.files), lines(manifest.tensors),
      manifest.meta.dump(1));
}

Manifest parse_manifest(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where);
  const Node node(json, where);
  node.require(json.is_object(), "not an object");
  node.require(node.text("format") == kFormat, "format is '{}', not '{}'", node.text("format").substr(0, 100),
               kFormat);
  const int64_t version = node.number("version", kMaxStep);
  node.require(version == kFormatVersion, "version {} of the format; this program reads version {}", version,
               kFormatVersion);
  node.require_keys({"format", "version", "step", "chunk_bytes", "files", "tensors", "meta"});
  const int64_t chunk_bytes = node.number("chunk_bytes", kMaxStep);
  node.require(chunk_bytes == kChunkBytes, "chunk_bytes is {}, this version has {}", chunk_bytes,
               kChunkBytes);

  Manifest manifest;
  manifest.step = node.number("step", kMaxStep);
  manifest.meta = json["meta"];
  const auto files = node.elements("files");
  node.require(!files.empty() && static_cast<int64_t>(files.size()) <= kMaxFiles,
               "{} files, expected 1 .. {}", files.size(), kMaxFiles);
  for (const Node& file : files)
    manifest.files.push_back(
        parse_file(file, static_cast<int64_t>(manifest.files.size()), static_cast<int64_t>(files.size())));
  for (const Node& tensor : node.elements("tensors")) {
    manifest.tensors.push_back(parse_tensor(tensor, manifest.files));
    const size_t n = manifest.tensors.size();
    tensor.require(n == 1 || manifest.tensors[n - 2].name < manifest.tensors[n - 1].name,
                   "'{}' stands twice or out of order", manifest.tensors[n - 1].name);
  }
  check_storage(manifest, where);
  return manifest;
}

std::string commit_line(const std::string& manifest_text) {
  return fmt::format("{}  {}\n", hex(xxh3_128(manifest_text.data(), manifest_text.size())), kManifestName);
}

}  // namespace dm::checkpoints
