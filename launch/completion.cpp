// Completion for shells: commands, then the command's options, then what an option takes.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/pages.h"

namespace dm::launch {
namespace {

constexpr const char* kCommonWords = "--config --override --print-config --help";

std::string choices_of(const Field& field) { return fmt::format("{}", fmt::join(field.choices, " ")); }

bool takes_path(const Field& field) {
  return field.choices.empty() && (field.type == "text" || field.type == "list");
}

/// For zsh between apostrophes and inside [..] and ..:.. of _arguments.
std::string zsh_quoted(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\'')
      result += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      result += std::string("\\") + c;
    else
      result += c;
  }
  return result;
}

/// What zsh does for the value of a field.
std::string zsh_action(const Field& field) {
  if (!field.choices.empty()) return fmt::format("({})", choices_of(field));
  return takes_path(field) ? "_files" : "";
}

}  // namespace

std::string bash_completion(const Commands& commands) {
  std::string words, cases;
  for (const auto& command : commands) words += fmt::format("{} ", command->name());
  for (const Page& page : pages()) words += fmt::format("{} ", page.word);

  for (const auto& command : commands) {
    std::string options, with_path = "--config", with_other = "--override", choices;
    for (const Field& field : command->table().fields()) {
      options += field.option() + " ";
      if (!field.choices.empty())
        choices += fmt::format("        {}) words=\"{}\" ;;\n", field.option(), choices_of(field));
      else if (takes_path(field))
        with_path += "|" + field.option();
      else if (field.type != "flag")
        with_other += "|" + field.option();
    }
    const Field* alone = command->positional() ? command->table().find(command->positional()) : nullptr;
    cases += fmt::format(
        "    {0})\n      case $before in\n{1}        {2}) paths=yes ;;\n        {3}) ;;\n"
        "        *) words=\"{4}{5}{6}\"{7} ;;\n      esac ;;\n",
        command->name(), choices, with_path, with_other, options, kCommonWords,
        alone && !takes_path(*alone) ? " " + choices_of(*alone) : "",
        alone && takes_path(*alone) ? " paths=yes" : "");
  }
  return fmt::format(
      "# bash completion for diffmamba, printed by `diffmamba bash-completion`.\n"
      "_diffmamba() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} words= paths=\n"
      "  local command=${{COMP_WORDS[1]}}\n"
      "  [ \"$COMP_CWORD\" != 1 ] || command=\n"
      "  case $command in\n"
      "    '') words=\"{}\" ;;\n"
      "{}"
      "  esac\n"
      "  COMPREPLY=()\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
      "  [ -z \"$paths\" ] || mapfile -t -O ${{#COMPREPLY[@]}} COMPREPLY < <(compgen -f -- \"$word\")\n"
      "}}\n"
      "complete -o filenames -F _diffmamba diffmamba\n",
      words, cases);
}

std::string zsh_completion(const Commands& commands) {
  std::string names, cases;
  for (const auto& command : commands)
    names += fmt::format("        '{}:{}'\n", command->name(), zsh_quoted(command->summary()));
  for (const Page& page : pages())
    names += fmt::format("        '{}:{}'\n", page.word, zsh_quoted(page.summary));

  for (const auto& command : commands) {
    cases += fmt::format("        {})\n          _arguments \\\n", command->name());
    for (const Field& field : command->table().fields())
      cases += fmt::format("            '{}[{}]{}{}:{}' \\\n", field.option(), zsh_quoted(field.help),
                           field.type == "flag" ? "::" : ":", field.type,
                           field.type == "flag" ? "(true false)" : zsh_action(field));
    if (command->positional())
      cases += fmt::format("            '1:{}:{}' \\\n", command->positional(),
                           zsh_action(*command->table().find(command->positional())));
    cases +=
        "            '--config[INI file]:file:_files' '*--override[set one option]:KEY=VALUE:' \\\n"
        "            '--print-config[print the resolved INI and stop]' '(-h --help)'{-h,--help}'[help]' ;;\n";
  }
  return fmt::format(
      "#compdef diffmamba\n# zsh completion for diffmamba, printed by `diffmamba zsh-completion`.\n"
      "_diffmamba() {{\n"
      "  local context state state_descr line\n"
      "  typeset -A opt_args\n"
      "  _arguments -C '1:command:->command' '*::argument:->argument'\n"
      "  case $state in\n"
      "    command)\n"
      "      local -a names=(\n{}      )\n"
      "      _describe -t commands 'diffmamba command' names ;;\n"
      "    argument)\n"
      "      case $words[1] in\n{}      esac ;;\n"
      "  esac\n"
      "}}\n"
      "_diffmamba \"$@\"\n",
      names, cases);
}

}  // namespace dm::launch
