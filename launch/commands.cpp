#include "launch/command.h"

namespace dm::launch {

std::vector<std::unique_ptr<Command>> make_commands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_prepare_command());
  commands.push_back(make_train_command());
  commands.push_back(make_status_command());
  commands.push_back(make_report_command());
  commands.push_back(make_eval_command());
  commands.push_back(make_generate_command());
  commands.push_back(make_inspect_command());
  commands.push_back(make_verify_command());
  commands.push_back(make_export_command());
  commands.push_back(make_import_command());
  commands.push_back(make_bench_command());
  commands.push_back(make_parity_command());
  commands.push_back(make_plan_command());
  return commands;
}

}  // namespace dm::launch
