#include "train/tasks/task_file.h"

#include <fmt/format.h>

#include <fstream>
#include <map>

#include "core/error.h"
#include "core/json.h"

namespace dm::train {
namespace {

constexpr size_t kLargestLineBytes = 16 << 20;

TaskItem parse_item(const Json& line, const std::string& where) {
  DM_REQUIRE(line.is_object(), ExitCode::bad_data, "{}: an item is a JSON object", where);
  TaskItem item{.task = required<std::string>(line, "task", where),
                .context = required<std::string>(line, "context", where),
                .continuations = {},
                .cloze = line.contains("target")};
  if (item.cloze) {
    item.continuations.push_back(required<std::string>(line, "target", where));
  } else {
    DM_REQUIRE(line.contains("choices") && line["choices"].is_array() && line["choices"].size() >= 2,
               ExitCode::bad_data, "{}: an item has a \"target\", or \"choices\", two at least", where);
    for (const Json& choice : line["choices"]) {
      DM_REQUIRE(choice.is_string(), ExitCode::bad_data, "{}: a choice is no text", where);
      item.continuations.push_back(choice.get<std::string>());
    }
    item.answer = required<int64_t>(line, "answer", where);
    DM_REQUIRE(item.answer >= 0 && item.answer < static_cast<int64_t>(item.continuations.size()),
               ExitCode::bad_data, "{}: answer {} of {} choices; the first is 0", where, item.answer,
               item.continuations.size());
  }
  for (const std::string& continuation : item.continuations)
    DM_REQUIRE(!continuation.empty(), ExitCode::bad_data, "{}: an empty continuation has no likelihood",
               where);
  return item;
}

}  // namespace

std::vector<TaskItem> read_tasks(const std::string& path) {
  std::ifstream file(path);
  DM_REQUIRE(file.good(), ExitCode::usage, "--tasks {}: no such file; launch/get_tasks makes some", path);
  std::vector<TaskItem> items;
  std::map<std::string, bool> cloze;  // of a task
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    const std::string where = fmt::format("{}:{}", path, ++number);
    DM_REQUIRE(text.size() <= kLargestLineBytes, ExitCode::bad_data, "{}: a line of {} bytes; {} are allowed",
               where, text.size(), kLargestLineBytes);
    if (text.empty()) continue;
    items.push_back(parse_item(parse_json(text, where), where));
    const auto [known, fresh] = cloze.emplace(items.back().task, items.back().cloze);
    DM_REQUIRE(known->second == items.back().cloze, ExitCode::bad_data,
               "{}: some items of '{}' have choices and others a target; give them different names", where,
               items.back().task);
  }
  DM_REQUIRE(!items.empty(), ExitCode::bad_data, "{}: no item in it", path);
  return items;
}

}  // namespace dm::train
