#include "launch/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/program_options.hpp>

#include "core/error.h"
#include "core/files.h"

namespace dm::launch {
namespace {
namespace po = boost::program_options;

constexpr int64_t kLargestConfigBytes = 1 << 20;

struct Assignment {
  std::string name, value, where;
};

po::options_description described(const Command& command, const FieldTable& table) {
  po::options_description options;
  auto add = options.add_options();
  add("help,h", "");  // these four: common_options()
  add("print-config", "");
  add("config", po::value<std::string>(), "");
  add("override", po::value<std::vector<std::string>>()->composing(), "");
  for (const Field& field : table.fields()) {
    const std::string option = field.option().substr(2);
    // A flag may stand alone; everything else takes a value. Both reach FieldTable::set as text.
    if (field.type == "flag")
      add(option.c_str(), po::value<std::string>()->implicit_value("true"), "");
    else
      add(option.c_str(), po::value<std::string>(), "");
  }
  if (command.positional()) add("positional", po::value<std::vector<std::string>>(), "");
  return options;
}

po::variables_map parsed(Command& command, const std::vector<std::string>& arguments) {
  const po::options_description options = described(command, command.table());
  po::positional_options_description positional;
  if (command.positional())
    positional.add("positional", command.table().find(command.positional())->type == "list" ? -1 : 1);
  namespace style = po::command_line_style;
  const int exact = style::unix_style & ~style::allow_guessing;
  try {
    po::variables_map values;
    po::store(po::command_line_parser(arguments).options(options).positional(positional).style(exact).run(),
              values);
    return values;
  } catch (const po::unknown_option& error) {
    command.table().set(error.get_option_name(), "",
                        error.get_option_name());  // throws, with the nearest name
    throw;
  } catch (const po::too_many_positional_options_error&) {
    DM_FAIL(ExitCode::usage, "{}: {}; options begin with --, see diffmamba {} --help", command.name(),
            command.positional() ? "more than one argument stands alone" : "an argument stands alone",
            command.name());
  } catch (const po::error& error) {
    DM_FAIL(ExitCode::usage, "{}: {}; see diffmamba {} --help", command.name(), error.what(), command.name());
  }
}

/// KEY=VALUE of --override.
Assignment split_override(const std::string& text) {
  const size_t equals = text.find('=');
  DM_REQUIRE(equals != std::string::npos, ExitCode::usage, "--override {}: expected KEY=VALUE", text);
  return {text.substr(0, equals), text.substr(equals + 1), "--override " + text};
}

std::string legal_values(const Field& field) {
  if (field.choices.empty()) return "";
  return fmt::format(" ({})", fmt::join(field.choices, ", "));
}

}  // namespace

ParsedOptions parse_options(Command& command, const std::vector<std::string>& arguments) {
  const po::variables_map values = parsed(command, arguments);
  ParsedOptions result;
  result.help = values.count("help") > 0;
  result.print_config = values.count("print-config") > 0;
  if (result.help) return result;

  const FieldTable& table = command.table();
  std::vector<Assignment> assignments;
  if (values.count("override"))
    for (const std::string& text : values["override"].as<std::vector<std::string>>())
      assignments.push_back(split_override(text));
  for (const Field& field : table.fields()) {
    const std::string option = field.option().substr(2);
    if (values.count(option))
      assignments.push_back({field.name, values[option].as<std::string>(), field.option()});
  }
  if (values.count("positional")) {
    const Field* field = table.find(command.positional());
    DM_REQUIRE(!values.count(field->option().substr(2)), ExitCode::usage,
               "{}: given twice, as {} and standing alone", command.name(), field->option());
    const auto words = values["positional"].as<std::vector<std::string>>();
    for (const std::string& word : words)
      DM_REQUIRE(words.size() == 1 || word.find(',') == std::string::npos, ExitCode::usage,
                 "{}: '{}' has a comma in it; name it by itself", command.name(), word);
    assignments.push_back({field->name, fmt::format("{}", fmt::join(words, ",")), field->option()});
  }

  const std::string config_path = values.count("config") ? values["config"].as<std::string>() : "";
  const std::string config_text = config_path.empty() ? "" : read_file(config_path, kLargestConfigBytes);
  const auto assign = [&] {
    read_ini(table, config_text, config_path);
    for (const Assignment& a : assignments) table.set(a.name, a.value, a.where);
  };
  assign();
  command.apply_presets();  // a preset's name may come from any of the three places ...
  assign();                 // ... and what was asked for by hand wins over it
  return result;
}

const std::vector<CommonOption>& common_options() {
  static const std::vector<CommonOption> options = {
      {"--config FILE", "INI file with the sections above"},
      {"--override KEY=VALUE", "set one option; may be repeated"},
      {"--print-config", "print the resolved INI and stop"},
      {"-h, --help", "print this and stop"},
  };
  return options;
}

std::string usage_line(const Command& command) {
  std::string argument = command.positional() ? " " + std::string(command.positional()) : "";
  std::transform(argument.begin(), argument.end(), argument.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  if (command.positional() && command.table().find(command.positional())->type == "list") argument += " ...";
  return fmt::format("{}diffmamba {}{} [--config FILE] [--option VALUE ...]",
                     command.takes_ranks() ? "[mpirun -n N] " : "", command.name(), argument);
}

std::string help_text(const Command& command) {
  std::string text = fmt::format("diffmamba {}: {}\n\n{}\n\nUsage: {}\n", command.name(), command.summary(),
                                 command.description(), usage_line(command));
  std::string section;
  for (const Field& field : command.table().fields()) {
    if (field.section != section) text += fmt::format("\n[{}]\n", section = field.section);
    const std::string left = field.option() + (field.type == "flag" ? "" : " " + field.type);
    const std::string default_text =
        field.default_text.empty() ? "" : fmt::format(" [{}]", field.default_text);
    text += fmt::format("  {:<28} {}{}{}\n", left, field.help, legal_values(field), default_text);
  }
  text += "\n[common]\n";
  for (const CommonOption& common : common_options())
    text += fmt::format("  {:<28} {}\n", common.option, common.help);
  return text;
}

}  // namespace dm::launch
