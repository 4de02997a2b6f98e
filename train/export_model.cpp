#include "train/export_model.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "checkpoints/safetensors.h"
#include "checkpoints/store.h"
#include "core/error.h"
#include "core/log.h"
#include "data/staging.h"
#include "model/interchange.h"
#include "model/language_model.h"
#include "train/flat_parameters.h"
#include "train/load_model.h"
#include "train/state.h"

namespace dm::train {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kBlockElements = 1 << 24;  // 64 MiB are held at a time
constexpr int64_t kLargestTokenizerBytes = 256 << 20;

/// Rows [begin, begin + count) of a parameter, whole when it is a vector.
struct Block {
  checkpoints::Box box;
  static std::vector<Block> cut(const std::vector<int64_t>& shape) {
    int64_t row = 1;
    for (size_t d = 1; d < shape.size(); ++d) row *= shape[d];
    const int64_t step = std::max<int64_t>(1, kBlockElements / row);
    std::vector<Block> blocks;
    for (int64_t begin = 0; begin < shape[0]; begin += step) {
      Block block{{std::vector<int64_t>(shape.size(), 0), shape}};
      block.box.offset[0] = begin;
      block.box.shape[0] = std::min(step, shape[0] - begin);
      blocks.push_back(block);
    }
    return blocks;
  }
};

class Export {
 public:
  Export(const ExportConfig& config, const CheckpointModel& source)
      : config_(config),
        source_(source),
        meta_(Meta::from_json(source.summary.meta, source.summary.directory)) {}

  std::string write() {
    data::Staging staging(config_.output);
    folder_ = staging.path();
    write_weights();
    const int64_t eos_id = meta_.data.eos_id;
    write_json("config.json", model::interchange_config(source_.config, eos_id));
    OrderedJson generation;
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
      if (eos_id >= 0) generation[key] = eos_id;
    generation["do_sample"] = false;
    write_json("generation_config.json", generation);
    write_tokenizer();
    sync_directory(folder_);
    staging.commit();
    return model::interchange_layout(source_.config);
  }

 private:
  using Tensors = std::vector<checkpoints::SafetensorsWriter::Tensor>;

  void write_weights() {
    std::vector<Tensors> files(1);
    int64_t bytes = 0, total = 0;
    for (const model::ParameterInfo& info : model::parameter_infos(source_.config)) {
      const Tensors::value_type tensor{info.name, info.shape};
      if (!files.back().empty() && bytes + tensor.size_bytes() > config_.shard_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      bytes += tensor.size_bytes(), total += tensor.size_bytes();
      files.back().push_back(tensor);
    }
    OrderedJson map = OrderedJson::object();
    for (size_t i = 0; i < files.size(); ++i) {
      const std::string name = files.size() == 1
                                   ? "model.safetensors"
                                   : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
      write_file(name, files[i]);
      for (const auto& tensor : files[i]) map[tensor.name] = name;
    }
    if (files.size() > 1)
      write_json("model.safetensors.index.json",
                 {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
  }

  void write_file(const std::string& name, const Tensors& tensors) {
    checkpoints::SafetensorsWriter writer(folder_ + "/" + name, tensors);
    for (const auto& tensor : tensors)
      for (const Block& block : Block::cut(tensor.shape)) {
        const at::Tensor values = load(tensor.name, tensor.shape, block.box).to(at::kFloat).contiguous();
        writer.append(values.data_ptr<float>(), values.numel());
      }
    writer.finish();
  }

  at::Tensor load(const std::string& name, const std::vector<int64_t>& shape,
                  const checkpoints::Box& box) const {
    const DType dtype = source_.dtype(name);
    at::Tensor values = at::empty(box.shape, scalar_type(dtype));
    checkpoints::load(source_.summary.directory, {{name, dtype, shape, box, values.data_ptr()}});
    return values;
  }

  void write_tokenizer() const {
    const DataIdentity& data = meta_.data;
    if (data.tokenizer == "bytes" || data.tokenizer_hash == Hash128{}) return;  // there is no file
    const std::string path = find_tokenizer(data, source_.summary.directory);
    const std::string file = read_file(path, kLargestTokenizerBytes);
    DM_REQUIRE(xxh3_128(file.data(), file.size()) == data.tokenizer_hash, ExitCode::bad_data,
               "{}: not the tokenizer that the model was trained with; restore that file", path);
    const bool json = fs::path(path).extension() == ".json";
    write_file_atomically(folder_ + (json ? "/tokenizer.json" : "/tokenizer.model"), file);
    if (!json) return;
    OrderedJson config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                          {"clean_up_tokenization_spaces", false}};
    const Json parsed = parse_json(file, path);
    for (const Json& token : parsed.value("added_tokens", Json::array()))
      if (token.value("id", int64_t{-1}) == data.eos_id) config["eos_token"] = token.value("content", "");
    write_json("tokenizer_config.json", config);
  }

  void write_json(const std::string& name, const OrderedJson& json) const {
    write_file_atomically(folder_ + "/" + name, json.dump(2) + "\n");
  }

  const ExportConfig& config_;
  const CheckpointModel& source_;
  Meta meta_;
  std::string folder_;
};

}  // namespace

std::string export_model(const ExportConfig& config) {
  DM_REQUIRE(!config.checkpoint.empty(), ExitCode::usage,
             "export: --checkpoint is missing: name a run or checkpoint folder");
  DM_REQUIRE(!config.output.empty(), ExitCode::usage, "export: --output is missing: name the folder to make");
  std::error_code absent;
  DM_REQUIRE(!fs::exists(config.output, absent), ExitCode::usage, "--output {}: exists; name another folder",
             config.output);
  std::string layout;
  with_newest_checkpoint(config.checkpoint,
                         [&](const CheckpointModel& source) { layout = Export(config, source).write(); });
  return layout;
}

}  // namespace dm::train
