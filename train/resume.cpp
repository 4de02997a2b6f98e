#include "train/resume.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/log.h"

namespace dm::train {
namespace {

const std::set<std::string> kJudgedByData{"data", "hdf5_name", "eos_id"};
const std::set<std::string> kJudgedBySchedule{"steps", "tokens"};
constexpr const char* kTokenizer = "tokenizer";

/// The text of a stored value, as options spell it.
std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const Json& item : value) text += (text.empty() ? "" : ",") + text_of(item);
  return text;
}

const Json* stored_value(const Json& config, const std::string& section, const std::string& name) {
  const auto fields = config.find(section);
  if (fields == config.end() || !fields->is_object()) return nullptr;
  const auto value = fields->find(name);
  return value == fields->end() ? nullptr : &*value;
}

int64_t stored_integer(const Json& config, const std::string& section, const char* name) {
  const Json* value = stored_value(config, section, name);
  return value != nullptr && value->is_number_integer() ? value->get<int64_t>() : 0;
}

/// Whether the steps done so far would have had the same learning rates with the stored end of the run.
bool same_history(const Meta& stored, const RunConfig& config) {
  RunConfig before = config;
  before.train.steps = stored_integer(stored.config, "train", "steps");
  before.train.tokens = stored_integer(stored.config, "train", "tokens");
  const int64_t old_total = before.total_steps(), new_total = config.total_steps();
  if (old_total == new_total || config.schedule.schedule == "constant") return true;
  if (old_total == 0 || new_total == 0)
    return config.schedule.schedule != "wsd" && config.schedule.decay_steps > 0;
  for (int64_t step = 0; step < stored.progress.step; ++step)
    if (schedule_factor(config.schedule, step, old_total) !=
        schedule_factor(config.schedule, step, new_total))
      return false;
  return true;
}

bool equal(const Json* stored, const Field& field) { return stored != nullptr && *stored == field.json(); }

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::vector<Difference> config_differences(const Meta& stored, RunConfig config) {
  const FieldTable table = config.table();
  std::vector<Difference> differences;
  const auto compare = [&](const Field& field) {
    const Json* value = stored_value(stored.config, field.section, field.name);
    if (!equal(value, field))
      differences.push_back(
          {field.name, value ? text_of(*value) : "(unknown to the version that wrote it)", field.text()});
  };
  const bool extends = same_history(stored, config);
  for (const Field& field : table.fields()) {
    if (field.affects != Affects::result || field.name == "preset" || kJudgedByData.contains(field.name))
      continue;
    if (!kJudgedBySchedule.contains(field.name) || !extends) compare(field);
  }
  // An option that this version does not know may have shaped the run.
  for (const auto& [section, fields] : stored.config.items())
    for (const auto& [name, value] : fields.items())
      if (table.find(section + "." + name) == nullptr)
        differences.push_back({name, text_of(value), "(unknown to this version)"});
  return differences;
}

std::vector<Difference> data_differences(const Meta& stored, RunConfig config, const DataIdentity& current) {
  std::vector<Difference> differences;
  if (!(stored.data.tokenizer_hash == current.tokenizer_hash))
    differences.push_back({kTokenizer,
                           fmt::format("{} ({})", stored.data.tokenizer, hex(stored.data.tokenizer_hash)),
                           fmt::format("{} ({})", current.tokenizer, hex(current.tokenizer_hash))});
  if (stored.data.fingerprint == current.fingerprint) return differences;

  // The fingerprint holds the order as well; when only that changed, config_differences has said so.
  const FieldTable table = config.table();
  const auto unchanged = [&](const char* name) {
    return equal(stored_value(stored.config, "data", name), *table.find(name));
  };
  const bool same_order = unchanged("order") && unchanged("data_seed");
  const bool same_paths = unchanged("data") && unchanged("hdf5_name") && unchanged("eos_id");
  if (same_order || !same_paths) {
    const Json* data = stored_value(stored.config, "data", "data");
    differences.push_back({"data",
                           fmt::format("{} ({})", data ? text_of(*data) : "?", hex(stored.data.fingerprint)),
                           fmt::format("{} ({})", table.find("data")->text(), hex(current.fingerprint))});
  }
  return differences;
}

void refuse_differences(const std::vector<Difference>& differences, const std::vector<std::string>& allow,
                        const std::string& checkpoint) {
  std::string refused, names;
  for (const Difference& difference : differences) {
    const std::string line =
        fmt::format("{}: {} -> {}", difference.name, difference.stored, difference.current);
    if (contains(allow, difference.name)) {
      log_warn("{} differs from {}, as --allow permits", line, checkpoint);
    } else {
      refused += "\n  " + line;
      names += (names.empty() ? "" : ",") + difference.name;
    }
  }
  DM_REQUIRE(refused.empty(), ExitCode::usage,
             "this run does not continue {}:{}\nGive the old values, another --run-dir, or --allow {} if the "
             "change is meant",
             checkpoint, refused, names);
}

void check_allowed_names(const FieldTable& table, const std::vector<std::string>& allow) {
  for (const std::string& name : allow) {
    if (name == kTokenizer || table.find(name) != nullptr) continue;
    const std::string nearest = table.nearest(name);
    DM_FAIL(ExitCode::usage, "--allow: '{}' is no option{}", name,
            nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
  }
}

}  // namespace dm::train
