#pragma once
// What the program says of itself, every page made from the commands and their option tables.

#include <memory>
#include <string>
#include <vector>

#include "launch/command.h"

namespace dm::launch {

using Commands = std::vector<std::unique_ptr<Command>>;

/// `diffmamba WORD` prints it.
struct Page {
  const char* word;
  const char* summary;
  std::string (*text)(const Commands& commands);
};

const std::vector<Page>& pages();

std::string overview(const Commands& commands);         // --help
std::string option_surface(const Commands& commands);   // options: one a line, what the tests pin
std::string markdown_manual(const Commands& commands);  // docs: docs/cli.md
std::string roff_manual(const Commands& commands);      // man: diffmamba.1
std::string bash_completion(const Commands& commands);
std::string zsh_completion(const Commands& commands);

}  // namespace dm::launch
