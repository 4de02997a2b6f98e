#include "launch/pages.h"

#include <fmt/format.h>

#include "kernels/device/device.h"
#include "train/state.h"

namespace dm::launch {

const std::vector<Page>& pages() {
  static const std::vector<Page> all = {
      {"--help", "the commands, these pages and the exit codes", overview},
      {"--version", "versions of the program and of what it was built with",
       [](const Commands&) {
         return fmt::format("{}, {}\n", train::program_version(), kernels::cuda_status());
       }},
      {"docs", "the manual in Markdown", markdown_manual},
      {"man", "the manual page, for man -l -", roff_manual},
      {"bash-completion", "completion for bash, to be sourced", bash_completion},
      {"zsh-completion", "completion for zsh, to be stored as _diffmamba in a folder of $fpath",
       zsh_completion},
      {"options", "every option of every command, one a line", option_surface},
  };
  return all;
}

std::string overview(const Commands& commands) {
  std::string text =
      "diffmamba: trains Differential Mamba language models\n\nUsage: diffmamba COMMAND [options]\n\n";
  for (const auto& command : commands)
    text += fmt::format("  {:<10} {}{}\n", command->name(), command->summary(),
                        command->takes_ranks() ? " (mpirun)" : "");
  text += "\ndiffmamba COMMAND --help lists a command's options. Of itself the program prints:\n";
  for (const Page& page : pages()) text += fmt::format("  {:<16} {}\n", page.word, page.summary);
  text += "\nExit codes:\n";
  for (const ExitCode code : kAllExitCodes)
    text += fmt::format("  {:>3}  {}\n", static_cast<int>(code), meaning(code));
  return text;
}

std::string option_surface(const Commands& commands) {
  std::string text;
  for (const auto& command : commands)
    for (const Field& field : command->table().fields())
      text += fmt::format("{} {}.{} {} {}\n", command->name(), field.section, field.name, field.type,
                          field.default_text.empty() ? "-" : field.default_text);
  return text;
}

}  // namespace dm::launch
