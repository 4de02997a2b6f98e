#include "model/interchange.h"

#include <fmt/ranges.h>

#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "model/language_model.h"
#include "model/layers/registry.h"

namespace dm::model {
namespace {

constexpr const char* kEmbeddings = "backbone.embeddings.weight";
constexpr const char* kOriginalEmbeddings = "backbone.embedding.weight";  // of state-spaces' own models
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kOptions = "diffmamba_options";  // of the layout "diffmamba": the model's fields

bool only(const std::string& letters, const LayerKind& kind) {
  return letters.find_first_not_of(kind.letter()) == std::string::npos;
}

/// The published setting that gives these letters, "" when none is known to.
std::string published_setting(const ModelConfig& config) {
  const std::string letters = layer_letters(config);
  for (const char* name : {"all", "alternate"}) {
    ModelConfig named = config;
    named.pattern = name;
    named.layers = static_cast<int64_t>(letters.size());
    if (layer_letters(named) == letters) return name;
  }
  return "";
}

/// What every layout but our own takes for granted; `norm_group` is what the layout's gated norm spans.
bool is_plain(const ModelConfig& c, const char* norm_group) {
  return c.norm == "rms" && c.block_norm == "pre" && c.cutoffs.empty() &&
         (c.norm_group == norm_group || c.n_groups == 1);
}

struct Limits {
  double low, high;
};
Limits step_limits(const ModelConfig& c) {
  const double infinity = std::numeric_limits<double>::infinity();
  return {c.dt_limit_min, c.dt_limit_max > 0 ? c.dt_limit_max : infinity};
}

/// A config.json that is read.
class Source {
 public:
  Source(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    DM_REQUIRE(json.is_object(), ExitCode::bad_data, "{}: no JSON object", where_);
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  template <class T>
  T get(const char* key, T missing) const {
    return has(key) ? required<T>(json_, key, where_) : missing;
  }
  /// Refuses any other value than `expected` of a key that is there.
  template <class T>
  void expect(const char* key, const T& expected) const {
    DM_REQUIRE(!has(key) || json_[key] == Json(expected), ExitCode::bad_data,
               "{}: {} is {}; only {} is known to this version", where_, key, json_[key].dump(),
               Json(expected).dump());
  }
  double limit(const Json& value) const {
    const Json inner = value.is_object() && value.contains("__float__") ? value["__float__"] : value;
    if (inner.is_string() && inner.get<std::string>() == "Infinity")
      return std::numeric_limits<double>::infinity();
    DM_REQUIRE(inner.is_number(), ExitCode::bad_data, "{}: time_step_limit holds {}", where_, value.dump());
    return inner.get<double>();
  }
  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }

 private:
  const Json& json_;
  std::string where_;
};

class Importer {
 public:
  Importer(const Json& json, const Shapes& shapes, const std::string& where)
      : source_(json, where), shapes_(shapes) {}

  ModelConfig result() {
    if (source_.has(kOptions)) {
      FieldTable table;
      table.add("model", config_);
      table.read_json({{"model", source_.json()[kOptions]}}, source_.where());
    } else {
      derive();
    }
    validate_here();
    compare_shapes();
    return config_;
  }

 private:
  const std::vector<int64_t>& shape(const std::string& name, size_t dims) const {
    const std::string stored = stored_name(name, shapes_);
    const auto found = shapes_.find(stored);
    DM_REQUIRE(found != shapes_.end(), ExitCode::bad_data, "{}: the model's files hold no tensor '{}'",
               source_.where(), stored);
    DM_REQUIRE(found->second.size() == dims, ExitCode::bad_data,
               "{}: the tensor '{}' has {} dims in place of {}", source_.where(), stored,
               found->second.size(), dims);
    return found->second;
  }
  bool has(const std::string& name) const { return shapes_.contains(stored_name(name, shapes_)); }

  void derive() {
    source_.expect("use_bias", false);
    source_.expect("use_conv_bias", true);
    source_.expect("hidden_act", "silu");
    source_.expect("rms_norm", true);
    const Json ssm = source_.get<Json>("ssm_cfg", Json::object());  // of state-spaces' own models
    DM_REQUIRE(!source_.has("attn_layer_idx") || source_.json()["attn_layer_idx"].empty(), ExitCode::bad_data,
               "{}: attn_layer_idx: attention layers are not known to this version", source_.where());
    DM_REQUIRE(source_.get<int64_t>("d_intermediate", 0) == 0, ExitCode::bad_data,
               "{}: d_intermediate: MLP layers are not known to this version", source_.where());
    const std::vector<int64_t>& embeddings = shape(kEmbeddings, 2);
    config_.vocab_size = embeddings[0], config_.d_model = embeddings[1];
    config_.norm_eps = source_.get("layer_norm_epsilon", 1e-5);
    const bool original = shapes_.contains(kOriginalEmbeddings);
    config_.tied = source_.get("tie_word_embeddings", source_.get("tie_embeddings", original || !has(kHead)));
    DM_REQUIRE(config_.tied || has(kHead), ExitCode::bad_data, "{}: the head is not tied, but there is no {}",
               source_.where(), kHead);
    config_.n_groups = source_.get("n_groups", ssm.is_object() && ssm.contains("ngroups")
                                                   ? required<int64_t>(ssm, "ngroups", source_.where())
                                                   : int64_t{1});
    DM_REQUIRE(config_.n_groups >= 1, ExitCode::bad_data, "{}: n_groups {}", source_.where(),
               config_.n_groups);
    // mamba_ssm and transformers normalise each group by itself, the published differential class all of E.
    if (config_.n_groups > 1 && !source_.get("diffmamba", false)) config_.norm_group = "group";
    config_.chunk_size = source_.get("chunk_size", config_.chunk_size);
    DM_REQUIRE(config_.chunk_size >= 1 && config_.chunk_size <= 65536, ExitCode::bad_data,
               "{}: chunk_size {}", source_.where(), config_.chunk_size);
    read_limits();
    for (int64_t i = 0; has(layer_prefix(i) + "norm.weight"); ++i) read_layer(i);
    DM_REQUIRE(!letters_.empty(), ExitCode::bad_data, "{}: the model's files hold no layer", source_.where());
    set_pattern();
  }

  void read_limits() {
    if (!source_.has("time_step_limit")) return;
    const Json& limits = source_.json()["time_step_limit"];
    DM_REQUIRE(limits.is_array() && limits.size() == 2, ExitCode::bad_data, "{}: time_step_limit is {}",
               source_.where(), limits.dump());
    const double low = source_.limit(limits[0]), high = source_.limit(limits[1]);
    DM_REQUIRE(low >= 0 && high > low && (std::isfinite(high) || low == 0), ExitCode::bad_data,
               "{}: time_step_limit {} is not known to this version", source_.where(), limits.dump());
    if (std::isfinite(high)) config_.dt_limit_min = low, config_.dt_limit_max = high;
  }

  /// The sizes of layer i's mixer, and which kind of layer has its tensors.
  void read_layer(int64_t i) {
    const std::string prefix = layer_prefix(i);
    const bool branches = has(prefix + "mixer_1.out_proj.weight");
    const std::string mixer = prefix + (branches ? "mixer_1." : "mixer.");
    const std::string kind = has(mixer + "x_proj.weight") ? "mamba1" : "mamba2";
    DM_REQUIRE(letters_.empty() || kind == config_.mixer, ExitCode::bad_data,
               "{}: layer {} is of {}, those before it of {}", source_.where(), i, kind, config_.mixer);
    config_.mixer = kind;
    const int64_t inner = shape(mixer + "out_proj.weight", 2)[1];
    config_.d_conv = shape(mixer + "conv1d.weight", 3)[2];
    if (kind == "mamba1") {
      config_.d_state = shape(mixer + "A_log", 2)[1];
      const int64_t rank = shape(mixer + "dt_proj.weight", 2)[1];
      config_.dt_rank = rank == (config_.d_model + 15) / 16 ? 0 : rank;
    } else {
      const int64_t heads = shape(mixer + "A_log", 1)[0];
      const int64_t extra = shape(mixer + "conv1d.weight", 3)[0] - inner;
      DM_REQUIRE(heads > 0 && inner % heads == 0 && extra > 0 && extra % (2 * config_.n_groups) == 0,
                 ExitCode::bad_data,
                 "{}: layer {}: {} heads and {} groups do not divide {} channels and {} of B and C",
                 source_.where(), i, heads, config_.n_groups, inner, extra);
      (branches ? config_.head_dim : config_.head_dim_plain) = inner / heads;
      config_.d_state = extra / (2 * config_.n_groups);
    }
    letters_ += letter_of(i);
  }

  /// Of the kinds of layers and, where they differ by them, the forms of λ, the one with these names.
  char letter_of(int64_t i) {
    std::set<std::string> stored;
    const std::string prefix = layer_prefix(i);
    for (auto at = shapes_.lower_bound(prefix); at != shapes_.end() && at->first.starts_with(prefix); ++at)
      stored.insert(at->first.substr(prefix.size()));
    stored.erase("norm.weight");
    for (const LayerKind* kind : layer_kinds()) {
      std::vector<DeclaredParameter> infos;
      kind->declare(config_, i, Declare(infos));
      std::set<std::string> names;
      for (const DeclaredParameter& declared : infos) names.insert(declared.info.name);
      if (names == stored) return kind->letter();
    }
    std::string names;
    for (const std::string& name : stored) names += " " + name;
    DM_FAIL(ExitCode::bad_data, "{}: layer {} holds{}; no layer of {} has these tensors", source_.where(), i,
            names, config_.mixer);
  }

  void set_pattern() {
    config_.pattern = compact_pattern(letters_);
    config_.layers = 0;
    if (const std::string setting = published_setting(config_); !setting.empty())
      config_.pattern = setting, config_.layers = static_cast<int64_t>(letters_.size());
    const auto declared =
        source_.get("num_hidden_layers", source_.get("n_layer", static_cast<int64_t>(letters_.size())));
    DM_REQUIRE(declared == static_cast<int64_t>(letters_.size()), ExitCode::bad_data,
               "{}: {} layers are declared, {} are stored", source_.where(), declared, letters_.size());
  }

  void validate_here() const {
    try {
      validate(config_);
    } catch (const Error& error) {
      DM_FAIL(ExitCode::bad_data, "{}: {}", source_.where(), error.what());
    }
  }

  /// Every parameter with its shape, and nothing else.
  void compare_shapes() const {
    std::set<std::string> used;
    for (const ParameterInfo& info : parameter_infos(config_)) {
      const std::vector<int64_t>& stored = shape(info.name, info.shape.size());
      DM_REQUIRE(stored == info.shape, ExitCode::bad_data, "{}: '{}' is stored as [{}], the model's is [{}]",
                 source_.where(), info.name, fmt::join(stored, ", "), fmt::join(info.shape, ", "));
      used.insert(stored_name(info.name, shapes_));
    }
    if (config_.tied) used.insert(kHead);  // some files have the tied matrix twice
    for (const auto& [name, unused] : shapes_)
      DM_REQUIRE(used.contains(name), ExitCode::bad_data, "{}: the tensor '{}' is none of this model",
                 source_.where(), name);
  }

  Source source_;
  const Shapes& shapes_;
  ModelConfig config_;
  std::string letters_;
};

}  // namespace

std::string interchange_layout(const ModelConfig& c) {
  const std::string letters = layer_letters(c);
  if (only(letters, plain_mixer_kind()) && is_plain(c, "group"))
    return c.mixer == "mamba2" ? "mamba2" : "mamba";
  const bool published = is_plain(c, "all") && c.mixer == "mamba2" && c.lambda == ModelConfig().lambda &&
                         c.subln && !published_setting(c).empty() &&
                         (only(letters, differential_kind()) || c.head_dim_plain == 2 * c.head_dim);
  return published ? "diffmamba2" : "diffmamba";
}

OrderedJson interchange_config(const ModelConfig& c, int64_t eos_id) {
  const std::string layout = interchange_layout(c), letters = layer_letters(c);
  const bool mamba2 = layout == "mamba2" || layout == "diffmamba2";
  OrderedJson json;
  json["architectures"] = {layout == "mamba2"       ? "Mamba2ForCausalLM"
                           : layout == "mamba"      ? "MambaForCausalLM"
                           : layout == "diffmamba2" ? "DiffMamba2ForCausalLM"
                                                    : "DiffMambaForCausalLM"};
  json["model_type"] = mamba2 ? "mamba2" : layout;
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.d_model;
  json["num_hidden_layers"] = letters.size();
  json["tie_word_embeddings"] = c.tied;
  json["torch_dtype"] = "float32";
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    json[key] = eos_id < 0 ? OrderedJson() : OrderedJson(eos_id);
  if (layout == "diffmamba") {
    ModelConfig copy = c;
    FieldTable table;
    table.add("model", copy);
    json[kOptions] = table.to_json()["model"];
    return json;
  }
  json["state_size"] = c.d_state;
  json["expand"] = 2;
  json["conv_kernel"] = c.d_conv;
  json["use_bias"] = false;
  json["use_conv_bias"] = true;
  json["hidden_act"] = "silu";
  json["layer_norm_epsilon"] = c.norm_eps;
  json["residual_in_fp32"] = true;
  if (!mamba2) {
    json["intermediate_size"] = 2 * c.d_model;
    json["time_step_rank"] = c.dt_rank > 0 ? c.dt_rank : (c.d_model + 15) / 16;
    return json;
  }
  const int64_t head_dim = only(letters, differential_kind()) ? 2 * c.head_dim : c.head_dim_plain;
  json["head_dim"] = head_dim;
  json["num_heads"] = 2 * c.d_model / head_dim;
  json["n_groups"] = c.n_groups;
  json["chunk_size"] = c.chunk_size;
  json["rms_norm"] = true;
  if (const Limits limits = step_limits(c); std::isfinite(limits.high))
    json["time_step_limit"] = {limits.low, limits.high};
  if (layout == "diffmamba2") {
    json["diffmamba"] = true;
    json["diffmamba_settings"] = published_setting(c);
  }
  return json;
}

std::string with_quoted_infinities(const std::string& json) {
  std::string result;
  bool in_text = false;
  for (size_t at = 0; at < json.size(); ++at) {
    const char c = json[at];
    if (in_text && c == '\\' && at + 1 < json.size()) {
      result += json.substr(at++, 2);
      continue;
    }
    if (c == '"') in_text = !in_text;
    constexpr std::string_view kInfinity = "Infinity";
    if (!in_text && json.compare(at, kInfinity.size(), kInfinity) == 0) {
      result += "\"Infinity\"";
      at += kInfinity.size() - 1;
      continue;
    }
    result += c;
  }
  return result;
}

ModelConfig config_from_interchange(const Json& json, const Shapes& shapes, const std::string& where) {
  return Importer(json, shapes, where).result();
}

std::string compact_pattern(const std::string& letters) {
  std::string pattern;
  for (size_t begin = 0; begin < letters.size();) {
    const size_t end = std::min(letters.find_first_not_of(letters[begin], begin), letters.size());
    pattern += letters[begin];
    if (end - begin > 1) pattern += fmt::format("*{}", end - begin);
    begin = end;
  }
  return pattern;
}

std::string stored_name(const std::string& name, const Shapes& stored) {
  return name == kEmbeddings && stored.contains(kOriginalEmbeddings) ? kOriginalEmbeddings : name;
}

}  // namespace dm::model
