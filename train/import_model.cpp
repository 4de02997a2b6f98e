#include "train/import_model.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "checkpoints/safetensors.h"
#include "checkpoints/store.h"
#include "checkpoints/torch_state_dict.h"
#include "core/error.h"
#include "core/log.h"
#include "data/tokenizer.h"
#include "model/interchange.h"
#include "model/language_model.h"
#include "train/run_config.h"
#include "train/state.h"
#include "train/swap_layers.h"

namespace dm::train {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kLargestJsonBytes = 64 << 20;
constexpr int64_t kBlockElements = 1 << 22;  // 16 MiB are held at a time

/// Weights on their way from one format to the other: an unnamed file, seen as memory that the system may
/// drop.
class Scratch {
 public:
  Scratch(const std::string& folder, int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(float)) {
    file_ = File::open(folder, O_TMPFILE | O_RDWR, 0600);
    file_.allocate(static_cast<int64_t>(bytes_));
    DM_SYS(ftruncate(file_.fd(), static_cast<off_t>(bytes_)), "resize", folder);
  }
  ~Scratch() {
    if (memory_ != MAP_FAILED) munmap(memory_, bytes_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void append(const float* values, int64_t count) {
    file_.write_at(values, static_cast<size_t>(count) * sizeof(float),
                   at_ * static_cast<int64_t>(sizeof(float)));
    at_ += count;
  }
  float* map() {
    memory_ = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file_.fd(), 0);
    DM_REQUIRE(memory_ != MAP_FAILED, ExitCode::io, "{} bytes of weights cannot be mapped", bytes_);
    return static_cast<float*>(memory_);
  }

 private:
  size_t bytes_;
  File file_;
  int64_t at_ = 0;
  void* memory_ = MAP_FAILED;
};

std::string real_path(const fs::path& path) {
  std::error_code absent;
  const fs::path real = fs::canonical(path, absent);  // the hub's cache holds symbolic links
  DM_REQUIRE(!absent, ExitCode::io, "{}: no such file or folder", path.string());
  return real.string();
}

Json read_json(const fs::path& path) {
  return parse_json(model::with_quoted_infinities(read_file(real_path(path), kLargestJsonBytes)),
                    path.string());
}

/// The files that an index names; names lead nowhere else.
std::vector<std::string> indexed_files(const fs::path& folder, const fs::path& index) {
  const Json json = read_json(index);
  const Json map = required<Json>(json, "weight_map", index.string());
  DM_REQUIRE(map.is_object(), ExitCode::bad_data, "{}: weight_map is no object", index.string());
  std::vector<std::string> names;
  for (const auto& [tensor, file] : map.items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    DM_REQUIRE(!name.empty() && fs::path(name).filename() == name, ExitCode::bad_data,
               "{}: the file of '{}' is no name of a file in this folder", index.string(), tensor);
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<std::string> paths;
  for (const std::string& name : names) paths.push_back(real_path(folder / name));
  return paths;
}

checkpoints::ForeignTensors open_weights(const fs::path& folder) {
  if (fs::exists(folder / "model.safetensors"))
    return checkpoints::ForeignTensors::open_safetensors({real_path(folder / "model.safetensors")});
  if (const fs::path index = folder / "model.safetensors.index.json"; fs::exists(index))
    return checkpoints::ForeignTensors::open_safetensors(indexed_files(folder, index));
  if (const fs::path state = folder / "pytorch_model.bin"; fs::exists(state))
    return checkpoints::open_torch_state_dict(real_path(state));
  DM_FAIL(ExitCode::bad_data,
          "{}: holds no model.safetensors, model.safetensors.index.json or pytorch_model.bin",
          folder.string());
}

class Import {
 public:
  explicit Import(const ImportConfig& config)
      : config_(config),
        weights_(open_weights(config.input)),
        description_(read_json(fs::path(config.input) / "config.json")) {
    model::Shapes shapes;
    for (const auto& [name, tensor] : weights_.tensors()) shapes[name] = tensor.shape;
    source_ = model::config_from_interchange(description_, shapes, config.input);
    for (const model::ParameterInfo& info : model::parameter_infos(source_))
      stored_[info.name] = model::stored_name(info.name, shapes);
    if (source_.tied && shapes.contains("lm_head.weight"))
      require_same("lm_head.weight", stored_.at("backbone.embeddings.weight"));
    model_ = config.swap_last > 0 ? swap_last_layers(source_, config.swap_last) : source_;
  }

  void write() {
    const auto group = make_single_process_collectives();
    DM_REQUIRE(checkpoints::list(config_.output).empty(), ExitCode::usage,
               "--output {}: holds a run already; name another folder", config_.output);
    checkpoints::Store store(config_.output, {}, *group);
    const std::vector<model::ParameterInfo> infos = model::parameter_infos(model_);
    Scratch scratch(config_.output, model::parameter_count(model_));
    for (const model::ParameterInfo& info : infos) copy(info, scratch);
    float* values = scratch.map();
    std::vector<checkpoints::Piece> pieces;
    for (const model::ParameterInfo& info : infos) {
      pieces.push_back({info.name,
                        DType::f32,
                        info.shape,
                        {std::vector<int64_t>(info.shape.size(), 0), info.shape},
                        values});
      values += info.count();
    }
    store.save(0, pieces, meta().to_json());
    log_info("{}: {} parameters of {} \"{}\"", config_.output, model::parameter_count(model_), model_.mixer,
             model_.pattern);
  }

 private:
  void copy(const model::ParameterInfo& info, Scratch& to) {
    if (const auto same = stored_.find(info.name); same != stored_.end())
      return copy_runs(weights_.find(same->second), {{0, info.count()}}, to);
    if (const auto swap = swap_source(info.name, info.shape, source_, config_.swap_split)) {
      const int64_t taken = std::accumulate(swap->runs.begin(), swap->runs.end(), int64_t{0},
                                            [](int64_t sum, const Run& run) { return sum + run.count; });
      DM_CHECK(taken == info.count(), "{}: {} elements of {}", info.name, taken, info.count());
      return copy_runs(weights_.find(stored_.at(swap->name)), swap->runs, to);
    }
    log_info("{}: new", info.name);
    const at::Tensor fresh = at::empty(info.shape, at::kFloat);
    model::initialise(model_, info, static_cast<uint64_t>(config_.seed), 0, fresh);
    to.append(fresh.data_ptr<float>(), info.count());
  }

  void copy_runs(const checkpoints::ForeignTensor& tensor, const std::vector<Run>& runs, Scratch& to) {
    int64_t filled = 0;
    const auto flush = [&] {
      to.append(buffer_.data(), filled);
      filled = 0;
    };
    for (const Run& run : runs)
      for (int64_t done = 0; done < run.count;) {
        if (filled == kBlockElements) flush();
        const int64_t step = std::min(run.count - done, kBlockElements - filled);
        weights_.read(tensor, run.begin + done, step, buffer_.data() + filled);
        filled += step, done += step;
      }
    flush();
  }

  /// Some files have the tied matrix twice; it must be one.
  void require_same(const std::string& a, const std::string& b) {
    const checkpoints::ForeignTensor &first = weights_.find(a), &second = weights_.find(b);
    DM_REQUIRE(first.shape == second.shape, ExitCode::bad_data,
               "{}: '{}' and '{}' are tied, but differ in shape", config_.input, a, b);
    std::vector<float> other(static_cast<size_t>(kBlockElements));
    for (int64_t at = 0; at < first.count(); at += kBlockElements) {
      const int64_t step = std::min(kBlockElements, first.count() - at);
      weights_.read(first, at, step, buffer_.data());
      weights_.read(second, at, step, other.data());
      DM_REQUIRE(std::memcmp(buffer_.data(), other.data(), static_cast<size_t>(step) * sizeof(float)) == 0,
                 ExitCode::bad_data, "{}: '{}' and '{}' are tied, but differ from element {} on",
                 config_.input, a, b, at);
    }
  }

  Meta meta() const {
    Meta meta;
    RunConfig run;
    run.model = model_;
    meta.config = run.table().to_json();
    meta.guard = Json::object();
    meta.program = program_version();
    meta.data = tokenizer();
    return meta;
  }

  /// The tokenizer's file goes into the run's folder; whether it can be used shows when it is.
  DataIdentity tokenizer() const {
    std::string path = config_.tokenizer;
    for (const char* name : {"tokenizer.json", "tokenizer.model"})
      if (const fs::path there = fs::path(config_.input) / name; path.empty() && fs::exists(there))
        path = there.string();
    if (path.empty()) {
      log_warn("{}: has no tokenizer; generate needs one, give it with --tokenizer", config_.input);
      return {{}, "unknown", {}, end_of_text()};
    }
    if (path == "bytes") return {{}, path, data::open_tokenizer(path)->hash(), 256};
    DataIdentity data{{}, path, file_hash(path), end_of_text()};
    if (data.eos_id < 0) data.eos_id = data::open_tokenizer(path)->eos_id();
    keep_tokenizer(data, config_.output);
    return data;
  }

  static Hash128 file_hash(const std::string& path) {
    const std::string file = read_file(path, int64_t{256} << 20);
    return xxh3_128(file.data(), file.size());
  }

  int64_t end_of_text() const {
    if (!description_.contains("eos_token_id")) return -1;
    const Json& id = description_["eos_token_id"];
    const Json& first = id.is_array() && !id.empty() ? id[0] : id;
    return first.is_number_integer() && first >= 0 && first < model_.vocab_size ? first.get<int64_t>() : -1;
  }

  const ImportConfig& config_;
  checkpoints::ForeignTensors weights_;
  Json description_;
  model::ModelConfig source_, model_;
  std::map<std::string, std::string> stored_;  // names in the files, of the source's parameters
  std::vector<float> buffer_ = std::vector<float>(static_cast<size_t>(kBlockElements));
};

}  // namespace

void import_model(const ImportConfig& config) {
  DM_REQUIRE(!config.input.empty(), ExitCode::usage,
             "import: --input is missing: name a folder with config.json");
  DM_REQUIRE(!config.output.empty(), ExitCode::usage,
             "import: --output is missing: name the run folder to make");
  DM_REQUIRE(fs::is_directory(config.input), ExitCode::io, "{}: no such folder", config.input);
  Import(config).write();
}

}  // namespace dm::train
