// The manual, as Markdown (docs/cli.md) and as a manual page.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "launch/options.h"
#include "launch/pages.h"

namespace dm::launch {
namespace {

/// Consecutive fields of one section.
struct Section {
  std::string name;
  std::vector<const Field*> fields;
};

std::vector<Section> sections(const Command& command) {
  std::vector<Section> result;
  for (const Field& field : command.table().fields()) {
    if (result.empty() || result.back().name != field.section) result.push_back({field.section, {}});
    result.back().fields.push_back(&field);
  }
  return result;
}

bool same_options(const Section& a, const Section& b) {
  return a.name == b.name && std::equal(a.fields.begin(), a.fields.end(), b.fields.begin(), b.fields.end(),
                                        [](const Field* x, const Field* y) {
                                          return x->name == y->name && x->help == y->help &&
                                                 x->default_text == y->default_text;
                                        });
}

/// The command before `command` that has a section of the same options; empty when there is none.
std::string told_before(const Commands& commands, const Command& command, const Section& section) {
  for (const auto& other : commands) {
    if (other.get() == &command) break;
    for (const Section& candidate : sections(*other))
      if (same_options(candidate, section)) return other->name();
  }
  return "";
}

std::string affects_text(const Field& field) {
  return field.affects == Affects::speed ? "speed" : field.affects == Affects::output ? "output" : "";
}

/// "integer 1 .. 4096": what an option takes.
std::string value_text(const Field& field) {
  const Range none;
  if (field.range.min == none.min && field.range.max == none.max) return field.type;
  return fmt::format("{} {} .. {}", field.type, number_text(field.range.min), number_text(field.range.max));
}

/// `text` with each of `special` behind a backslash, except in backquotes.
std::string markdown(const std::string& text) {
  std::string result;
  bool code = false;
  for (const char c : text) {
    if (c == '`') code = !code;
    if (c == '|' || (!code && (c == '*' || c == '_' || c == '<' || c == '>' || c == '['))) result += '\\';
    result += c;
  }
  return result;
}

/// A summary as a sentence.
std::string sentence(std::string text) {
  text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text + ".";
}

std::string in_code(const std::string& text) { return text.empty() ? "" : "`" + text + "`"; }

std::string markdown_row(const Field& field) {
  std::string values = value_text(field);
  if (!field.choices.empty()) {
    values = "";
    for (const std::string& choice : field.choices)
      if (!choice.empty()) values += (values.empty() ? "" : ", ") + in_code(choice);
  }
  const std::string mark = affects_text(field);
  return fmt::format("| `{}` | {} | {} | {}{} |\n", field.option(), values, in_code(field.default_text),
                     markdown(field.help), mark.empty() ? "" : " *(" + mark + ")*");
}

/// Text for roff: a line's first point or quote is a request, and a hyphen is not a minus.
std::string roff(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if ((c == '.' || c == '\'') && (result.empty() || result.back() == '\n')) result += "\\&";
    if (c == '\\')
      result += "\\e";
    else if (c == '-')
      result += "\\-";
    else
      result += c;
  }
  return result;
}

}  // namespace

std::string markdown_manual(const Commands& commands) {
  std::string text =
      "# Command line\n\n"
      "Printed by `diffmamba docs` from the tables that parse the options; a test compares. `diffmamba man` "
      "prints the same as a manual\npage, `diffmamba bash-completion` and `zsh-completion` what shells "
      "complete with; `cmake --install` puts all three in their places.\n\n"
      "Options may stand in an INI file under their section (`lr = 1e-3` below `[optimizer]` is `--lr "
      "1e-3`); the command line wins over\n`--override`, both over the file, and all over a preset. A flag "
      "may stand alone. Integers may be `1_000_000`, `1M`, `64k`. An option\nmarked *(speed)* or *(output)* "
      "may change when a run is resumed; any other would make another run.\n\n"
      "| common to all commands | |\n| --- | --- |\n";
  for (const CommonOption& common : common_options())
    text += fmt::format("| `{}` | {} |\n", common.option, markdown(common.help));
  text += "\n| exit code | |\n| --- | --- |\n";
  for (const ExitCode code : kAllExitCodes)
    text += fmt::format("| {} | {} |\n", static_cast<int>(code), markdown(meaning(code)));
  text += "\n| the program of itself | |\n| --- | --- |\n";
  for (const Page& page : pages())
    text += fmt::format("| `diffmamba {}` | {} |\n", page.word, markdown(page.summary));

  for (const auto& command : commands) {
    text += fmt::format("\n## {}\n\n{}\n\n    {}\n\n{}\n", command->name(),
                        markdown(sentence(command->summary())), usage_line(*command),
                        markdown(command->description()));
    for (const Section& section : sections(*command)) {
      const std::string before = told_before(commands, *command, section);
      if (!before.empty()) {
        text += fmt::format("\n`[{}]`: as with [{}](#{}).\n", section.name, before, before);
        continue;
      }
      text += fmt::format("\n| `[{}]` | value | default | |\n| --- | --- | --- | --- |\n", section.name);
      for (const Field* field : section.fields) text += markdown_row(*field);
    }
  }
  return text;
}

std::string roff_manual(const Commands& commands) {
  std::string text =
      ".TH DIFFMAMBA 1\n.SH NAME\ndiffmamba \\- trains Differential Mamba language models\n"
      ".SH SYNOPSIS\n.B diffmamba\nCOMMAND [\\-\\-config FILE] [\\-\\-option VALUE ...]\n"
      ".SH DESCRIPTION\n"
      "Options may stand in an INI file under their section. The command line wins over\n"
      ".BR \\-\\-override ,\nboth over the file, and all over a preset.\n";
  for (const CommonOption& common : common_options())
    text += fmt::format(".TP\n.B {}\n{}\n", roff(common.option), roff(common.help));
  text += ".SH COMMANDS\n";
  for (const auto& command : commands) {
    text +=
        fmt::format(".SS {}\n{}\n.PP\n.B {}\n.PP\n{}\n", command->name(), roff(sentence(command->summary())),
                    roff(usage_line(*command)), roff(command->description()));
    for (const Section& section : sections(*command)) {
      const std::string before = told_before(commands, *command, section);
      text += fmt::format(".PP\n[{}]{}\n", roff(section.name),
                          before.empty() ? "" : ": as with " + roff(before) + ".");
      if (!before.empty()) continue;
      for (const Field* field : section.fields) {
        const std::string values =
            field->choices.empty() ? value_text(*field) : fmt::format("{}", fmt::join(field->choices, "|"));
        text +=
            fmt::format(".TP\n.BR {} \" {}\"\n{}{}\n", roff(field->option()), roff(values), roff(field->help),
                        field->default_text.empty() ? "" : roff(" [" + field->default_text + "]"));
      }
    }
  }
  text += ".SH EXIT STATUS\n";
  for (const ExitCode code : kAllExitCodes)
    text += fmt::format(".TP\n.B {}\n{}\n", static_cast<int>(code), roff(meaning(code)));
  return text;
}

}  // namespace dm::launch
