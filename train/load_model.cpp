#include "train/load_model.h"

#include <filesystem>

#include "core/error.h"
#include "core/log.h"
#include "train/flat_parameters.h"
#include "train/state.h"

namespace dm::train {
namespace {

model::ModelConfig stored_model_config(const Json& run_config, const std::string& where) {
  model::ModelConfig config;
  FieldTable table;
  table.add("model", config);
  table.read_json({{"model", required<Json>(run_config, "model", where)}}, where);
  model::validate(config);
  return config;
}

CheckpointModel open_checkpoint(const std::string& directory) {
  CheckpointModel opened;
  opened.summary = checkpoints::read_summary(directory);
  const Meta meta = Meta::from_json(opened.summary.meta, directory);
  opened.config = stored_model_config(meta.config, directory);
  for (const model::ParameterInfo& info : model::parameter_infos(opened.config))
    for (const auto& tensor : opened.summary.tensors)
      // Compared before anything of that size is allocated.
      DM_REQUIRE(tensor.name != info.name || tensor.global_shape == info.shape, ExitCode::bad_data,
                 "{}: the shape of {} does not fit the config stored beside it", directory, info.name);
  return opened;
}

LoadedModel load_checkpoint(const CheckpointModel& source) {
  LoadedModel loaded{source.config, {}, source.summary};
  std::vector<checkpoints::Piece> pieces;
  for (const model::ParameterInfo& info : model::parameter_infos(loaded.config)) {
    const DType dtype = source.dtype(info.name);
    const at::Tensor values = at::empty(info.shape, scalar_type(dtype));
    loaded.parameters.emplace(info.name, values);
    const checkpoints::Box whole{std::vector<int64_t>(info.shape.size(), 0), info.shape};
    pieces.push_back({info.name, dtype, info.shape, whole, values.data_ptr()});
  }
  checkpoints::load(source.summary.directory, pieces);
  return loaded;
}

}  // namespace

DType CheckpointModel::dtype(const std::string& parameter) const {
  for (const auto& tensor : summary.tensors)
    if (tensor.name == parameter) return tensor.dtype;
  DM_FAIL(ExitCode::bad_data, "{}: holds no tensor '{}', which its config says it has", summary.directory,
          parameter);
}

void with_newest_checkpoint(const std::string& directory,
                            const std::function<void(const CheckpointModel&)>& use) {
  const std::filesystem::path path(directory);
  DM_REQUIRE(std::filesystem::is_directory(path), ExitCode::io,
             "{}: no such folder; name a run or one of its checkpoints", directory);
  if (std::filesystem::exists(path / "COMMIT")) return use(open_checkpoint(directory));

  const std::vector<std::string> candidates = checkpoints::list(directory);
  DM_REQUIRE(!candidates.empty(), ExitCode::bad_data, "{}: holds no committed checkpoint", directory);
  for (const std::string& candidate : candidates) try {
      return use(open_checkpoint(candidate));
    } catch (const Error& error) {
      if (!checkpoints::condemns(error)) throw;
      log_warn("{}; trying the checkpoint before it", error.what());
    }
  DM_FAIL(ExitCode::bad_data, "{}: none of its {} checkpoints can be loaded; `diffmamba verify` shows why",
          directory, candidates.size());
}

LoadedModel load_for_inference(const std::string& directory) {
  LoadedModel loaded;
  with_newest_checkpoint(directory, [&](const CheckpointModel& source) { loaded = load_checkpoint(source); });
  return loaded;
}

}  // namespace dm::train
